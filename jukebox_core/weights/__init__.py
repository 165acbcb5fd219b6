"""Files of weights: where they come from, whether they are whole, and how they become tensors."""
