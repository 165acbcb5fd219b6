"""Families of token models, a folder each."""
