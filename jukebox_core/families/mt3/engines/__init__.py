"""Engines: replace the steps of the decoder by faster ones with the same interface."""
