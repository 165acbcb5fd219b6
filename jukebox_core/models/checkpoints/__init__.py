"""Checkpoint files: zip and legacy pickles, safetensors, conversion and prepared weights."""
