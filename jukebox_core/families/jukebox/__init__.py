"""Jukebox (Dhariwal et al. 2020): a three-level VQ-VAE and a transformer for each level."""
