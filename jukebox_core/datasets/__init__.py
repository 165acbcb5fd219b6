"""Recorded music to learn from: songs and what is known of them, clips of their sound, windows of their codes."""
