"""Data: corpora, stage examples, seqio tasks and the feeds that training reads."""
