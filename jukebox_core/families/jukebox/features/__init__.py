"""Codes and activations of Jukebox's priors as features (docs/features.md)."""
