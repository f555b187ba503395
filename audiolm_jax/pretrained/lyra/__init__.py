"""Lyra V2, the SoundStream of its authors' group."""
