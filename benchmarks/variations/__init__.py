"""How good variations of recordings are."""
