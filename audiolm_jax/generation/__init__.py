"""Sampling tokens, decoding with a cache, and the chain from a prompt to a waveform."""
