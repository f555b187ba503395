"""Optimizers, and what is done with a step that they must not take."""
