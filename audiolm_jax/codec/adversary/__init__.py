"""Discriminators and their convolutions."""
