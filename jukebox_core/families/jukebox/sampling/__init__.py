"""Sampling of Jukebox models: song plans, window decoding, precision and memory."""
