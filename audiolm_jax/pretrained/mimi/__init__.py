"""Mimi, Kyutai's codec."""
