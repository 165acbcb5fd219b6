"""Files of weights: key names of upstream, loading, checks, untrained weights."""
