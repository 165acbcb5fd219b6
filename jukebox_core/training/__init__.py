"""Training of any token model: optimiser, schedule, moving average, checkpoints, the loop, and its protocol."""
