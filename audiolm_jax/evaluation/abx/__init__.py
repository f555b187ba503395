"""ABX error rates of features and tokens."""
