"""Training data: songs with metadata, clips of their audio, windows of their codes."""
