"""Tokens: window plans, the graph of a song, its tracks and spans, and codes files."""
