"""What is generated, judged: ladder, samples, temperatures."""
