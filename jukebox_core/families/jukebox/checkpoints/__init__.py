"""Weights of Jukebox models: upstream's key names, loading, initialisation and prepared priors."""
