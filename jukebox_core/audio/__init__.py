"""Audio files, pictures of sound, and a tune of our own."""
