"""Training of Jukebox: steps of the VQ-VAE and the priors, checks before a training, and the model card."""
