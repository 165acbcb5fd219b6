"""Filling masked grids: draws, passes, chunks."""
