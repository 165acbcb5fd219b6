"""Settings of every command as frozen records, and their composition by Hydra."""
