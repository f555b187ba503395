"""What the layers of an encoder know of phones."""
