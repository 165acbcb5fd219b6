"""Prefect: tasks, artifacts, its database, signals and reconciliation after kills."""
