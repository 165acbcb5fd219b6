"""Conditioning of priors: vocabularies, labels, lyrics and song lengths."""
