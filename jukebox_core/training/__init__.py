"""Training as any token model would use it: optimiser, schedules, averaged weights, checkpoints and the loop."""
