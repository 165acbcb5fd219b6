"""The packages of the extra ``onnx``, which the rest of the program does without. Imports no torch."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from jukebox_core.errors import ConfigError

EXPORTING = ("onnx", "onnxscript", "onnxruntime")
RUNNING = ("onnxruntime",)


def require_packages(what: str, packages: tuple[str, ...]) -> None:
    """Checks that packages are installed; nothing is imported.

    Args:
        what: needs them; the message begins with it.
        packages: their names.

    Raises:
        ConfigError: one is missing.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise ConfigError(
            f"{what} needs {', '.join(missing)}, which {are} not installed; pip install 'jukebox-pipelines[onnx]'"
        )


def versions() -> dict[str, str]:
    """Returns the versions of the packages that make a graph."""
    return {name: version(name) for name in ("torch", *EXPORTING)}
