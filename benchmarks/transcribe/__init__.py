"""Speed of transcription, compared with the original way; ``python -m benchmarks.transcribe``."""
