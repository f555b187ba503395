"""The same data as seqio tasks and TFDS builders."""
