"""Metrics, one a file, each a pure function; and the report on held-out speakers."""
