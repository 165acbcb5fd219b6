"""The entry point of the program ``jukebox``: until the command line is imported, Ctrl-C ends it without a word."""

from __future__ import annotations

import signal


def main() -> int:
    """Returns the exit status of the program, run with the arguments of the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # which would show where imports were interrupted
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipelines.cli.main import main as program

    return program()
