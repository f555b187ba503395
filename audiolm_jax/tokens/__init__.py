"""Tokens: ids, stages, alignment, records on disk and the job that writes them."""
