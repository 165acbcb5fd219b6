"""Stages of training: albums, datasets, readiness checks, training and model folders."""
