"""EnCodec, at 24 and 48 kHz."""
