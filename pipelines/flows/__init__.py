"""Prefect flows, one for each command that computes."""
