"""The command line: `jukebox` and its subcommands."""
