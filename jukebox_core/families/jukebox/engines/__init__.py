"""Engines: how priors and the VQ-VAE are computed (eager, native, compiled, CUDA graphs)."""
