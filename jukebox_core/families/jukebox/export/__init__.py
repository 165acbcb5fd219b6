"""Jukebox's networks as graphs: encoders, decoders, and of each prior conditioning, prefill and step."""
