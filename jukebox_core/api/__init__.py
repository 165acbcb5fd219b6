"""The Python interface: a model, what it is asked for, and the music that it makes."""
