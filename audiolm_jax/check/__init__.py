"""Whether a training fits a TPU slice and how fast it can be there, found out by compiling it without the slice."""
