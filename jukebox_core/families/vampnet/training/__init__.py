"""Training of the transformers: masks, loss, learning rate, low-rank updates."""
