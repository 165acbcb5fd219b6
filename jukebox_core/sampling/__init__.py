"""Sampling of any family: noise by position, filters, the decode loop, windows, schedules and snapshots."""
