"""VampNet: masked tokens over a neural codec, filled in a few passes."""
