"""Metrics of audio and of codes."""
