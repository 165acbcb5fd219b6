"""Notes of music: records, piano rolls, JSON, CSV and MIDI files."""
