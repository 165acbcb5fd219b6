"""How right transcriptions are."""
