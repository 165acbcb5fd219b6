"""Lyrics in time with the music: the attention of a prior's head from codes to characters (docs/alignment.md)."""
