"""Training of Jukebox models: what a step of the VQ-VAE and of a prior computes, and the model folder it ends in."""
