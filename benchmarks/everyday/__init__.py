"""What people wait for: commands from start to end, and the page of composers."""
