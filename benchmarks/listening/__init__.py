"""Measurements of features and alignment."""
