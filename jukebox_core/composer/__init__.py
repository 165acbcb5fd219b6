"""Synthetic music, for training data and the demo: a seeded composer and its synthesiser."""
