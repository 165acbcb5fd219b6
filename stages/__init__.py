"""Stages: functions that read handles, call the core and seal its results, as plain calls or as Prefect tasks."""
