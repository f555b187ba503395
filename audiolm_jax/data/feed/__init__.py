"""Batches for a training, the same on every restart."""
