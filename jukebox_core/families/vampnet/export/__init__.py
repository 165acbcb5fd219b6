"""VampNet's networks as graphs: encoder, decoder, coarse, c2f."""
