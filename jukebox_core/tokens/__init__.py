"""Tokens at rest: windows, keys, the graph of a song and the token store."""
