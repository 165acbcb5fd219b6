"""Networks: spectrogram, encoder-decoder with a cache, segment memory."""
