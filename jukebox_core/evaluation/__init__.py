"""Numbers that say how good a model is: of sound, and of codes."""
