"""Recordings, who speaks in them, and which are held out."""
