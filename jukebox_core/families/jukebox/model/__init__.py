"""The networks: VQ-VAE, prior, transformer, attention and their caches."""
