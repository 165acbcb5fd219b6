"""Audio as the codec expects it: rate, channels, loudness."""
