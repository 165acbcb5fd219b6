"""A bar of progress for people: in a notebook, or on a terminal; elsewhere nothing is shown. Imports no torch."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.api.generation import Progress

_EVERY = 0.2  # seconds between two refreshes
_CELLS = 30


class Bar:
    """A context manager whose `show` takes `Progress`; None where nobody looks."""

    def __init__(self) -> None:
        self._write: Callable[[str, float], None] | None = None
        self._shown = -_EVERY
        self._handle: Any = None
        if _in_notebook():
            self._write = self._in_cell
        elif sys.stderr is not None and sys.stderr.isatty():
            self._write = _on_terminal

    def __enter__(self) -> Callable[[Progress], None] | None:
        return None if self._write is None else self.show

    def __exit__(self, *_: object) -> None:
        if self._write is _on_terminal and self._shown > 0:
            sys.stderr.write("\r\x1b[K")

    def show(self, progress: Progress) -> None:
        """Shows the progress of one level, a few times a second, and its end."""
        now, share = time.monotonic(), progress.tokens / max(progress.total, 1)
        if self._write is not None and (share >= 1 or now - self._shown >= _EVERY):
            self._shown = now
            self._write(f"level {progress.level}: {progress.tokens:,} of {progress.total:,} tokens", share)

    def _in_cell(self, text: str, share: float) -> None:
        notebook = import_module("IPython.display")
        shown = notebook.HTML(f'<progress max="1" value="{share:.3f}"></progress> {text}')
        if self._handle is None:
            self._handle = notebook.display(shown, display_id=True)
        else:
            self._handle.update(shown)


def _on_terminal(text: str, share: float) -> None:
    full = round(share * _CELLS)
    sys.stderr.write(f"\r\x1b[K[{'#' * full}{'.' * (_CELLS - full)}] {text}")
    sys.stderr.flush()


def _in_notebook() -> bool:
    """Whether this is the process of a notebook; a program that never imported IPython is none."""
    python = sys.modules.get("IPython")
    shell = None if python is None else python.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
