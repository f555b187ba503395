"""Descript's audio codec."""
