"""What a work directory keeps, and how a training begins from it."""
