"""Features measured: speed and memory, errors of precisions, probes; ``python -m benchmarks.features --help``."""
