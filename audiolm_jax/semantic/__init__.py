"""Waveform to semantic tokens: w2v-BERT features and k-means."""
