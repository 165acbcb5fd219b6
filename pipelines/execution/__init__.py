"""Execution of a run: preflight checks, planning, scheduling, workers and outputs."""
