"""Speed and memory of features; ``python -m benchmarks.features --help``."""

from benchmarks.features.speed import main

main()
