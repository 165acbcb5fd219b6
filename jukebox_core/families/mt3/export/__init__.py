"""MT3's networks as graphs: spectrogram, encoder, memory, start, step."""
