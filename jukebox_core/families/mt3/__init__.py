"""MT3: transcription of music to notes, with many instruments (Gardner et al. 2022) and its descendants."""
