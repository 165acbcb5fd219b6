"""Models under test in worker processes, with requests and replies as lines of JSON.

Each process holds one model, so that rounds of several models can be interleaved without sharing memory or threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class Worker:
    """A process that holds a model; a context manager that ends it."""

    def __init__(self, command: Sequence[str], *, path: Sequence[Path] = (), **build: Any) -> None:
        """Starts `command`, which calls `serve`, with `path` as PYTHONPATH; `build` are the arguments of the model."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.built = self._exchange(build)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        """Returns the result of the model's method `question`."""
        return self._exchange({"question": question, **arguments})

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended with {self._process.wait()}; its error is above")
        return cast("dict[str, Any]", json.loads(line))


def serve(build: Callable[..., Any]) -> None:
    """Builds a model with the arguments of the first line, and answers the requests of the following lines."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries goes to stderr

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    model = build(**json.loads(sys.stdin.readline()))
    answer(getattr(model, "built", {}))
    for line in sys.stdin:
        arguments = json.loads(line)
        answer(getattr(model, arguments.pop("question"))(**arguments))
