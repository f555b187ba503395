"""How near a sound is to another, and what a codec makes of it."""
