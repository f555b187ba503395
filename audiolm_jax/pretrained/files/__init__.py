"""Files of published models, read without running them."""
