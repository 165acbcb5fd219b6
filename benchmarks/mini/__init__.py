"""Quality of the embedded model on held-out songs; ``python -m benchmarks.mini --help``."""
