"""Whose voice it is, and whether it is one."""
