"""Training of MT3 models: excerpts of music with their notes, targets, the training step, and the finished model."""
