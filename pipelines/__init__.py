"""Settings, flows and the command line."""
