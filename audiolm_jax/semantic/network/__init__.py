"""The encoder's network."""
