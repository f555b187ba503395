"""HuBERT, wav2vec 2.0, WavLM and w2v-BERT 2.0."""
