"""The language model of the three stages: one decoder-only Transformer."""
