"""Words that recognisers hear, and how many of them are wrong."""
