"""All evaluations of a bundle in one report."""
