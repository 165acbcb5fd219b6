"""Networks: the codec, the transformers, low-rank updates."""
