"""Benchmarks, separate from the tests: ``python -m benchmarks`` runs quick ones on small models."""
