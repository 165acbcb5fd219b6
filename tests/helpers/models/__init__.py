"""Small models, made up or golden."""
