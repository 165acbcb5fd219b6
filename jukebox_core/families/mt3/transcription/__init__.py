"""From audio to notes: decode loop, segments, the transcriber."""
