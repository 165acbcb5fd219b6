"""Features of recordings."""
