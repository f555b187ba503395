"""Gin files, their macros and what these may be."""
