"""Tokenizing a corpus: on devices, on Beam, resumable."""
