"""Kinds of audio files."""
