"""Audio files and pictures of sound."""
