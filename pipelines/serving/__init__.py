"""Deployments: `jukebox serve` and the flow that it serves."""
