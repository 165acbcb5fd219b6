"""Stages of sampling: labels, prompts, windows, devices and snapshots."""
