"""Jobs: command lines that wait, and the one process that runs them."""
