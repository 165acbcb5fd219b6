"""Models under test in processes of their own: ours, and the peer."""
