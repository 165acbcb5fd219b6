"""Prefect tasks: doorways that read handles, call the core and seal what it made."""
