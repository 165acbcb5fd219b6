"""What pages and the API show of runs: read from their folders, never kept elsewhere."""
