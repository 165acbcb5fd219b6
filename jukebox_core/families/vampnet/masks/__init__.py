"""Masks: which tokens of a grid are generated."""
