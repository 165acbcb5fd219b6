"""Variations at the official sizes: speed in turns with the original way, and memory (`python -m benchmarks.vamp`)."""
