"""Run folders: manifests, takes, choices, garbage collection and audio files."""
