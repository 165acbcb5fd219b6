"""Audio files, waveform and spectrogram pictures."""
