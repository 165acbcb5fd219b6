"""Files of weights: names of tensors, settings stored with them, loading."""
