"""What stages have learned of the language: likelihoods, gold pairs, n-grams, use of tokens."""
