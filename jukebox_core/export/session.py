"""Runs a graph with onnxruntime. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.errors import CheckpointError, DeviceError, did_you_mean
from jukebox_core.export.extra import RUNNING, require_packages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CPU = "CPUExecutionProvider"
_DATA_SUFFIX = ".data"


class Session:
    """A graph that is loaded.

    Args:
        path: of the graph; a file of its weights may lie beside it.
        providers: onnxruntime's names, the one to prefer first.
        threads: of the CPU; None is onnxruntime's default.

    Raises:
        ConfigError: onnxruntime is not installed.
        DeviceError: a provider is not there.
        CheckpointError: the graph or the file of its weights is missing, damaged, or of a newer opset.
    """

    def __init__(self, path: Path, providers: Sequence[str] = (CPU,), threads: int | None = None) -> None:
        require_packages("running graphs", RUNNING)
        import onnxruntime

        check_providers(providers)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, which are raised
        if threads is not None:
            options.intra_op_num_threads = threads
        if not path.is_file():
            raise CheckpointError(f"there is no graph {path}; export the model again")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:
            raise CheckpointError(_explained(path, error)) from None
        self.inputs = tuple(each.name for each in self._session.get_inputs())
        self.outputs = tuple(each.name for each in self._session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Returns the outputs in their order."""
        found: list[NDArray[Any]] = self._session.run(None, dict(inputs))
        return found


def check_providers(providers: Sequence[str]) -> None:
    """Checks that the installed onnxruntime has execution providers.

    Raises:
        DeviceError: it lacks one.
    """
    import onnxruntime

    there = onnxruntime.get_available_providers()
    for name in providers:
        if name not in there:
            raise DeviceError(
                f"onnxruntime has no provider {name!r} here; choose one of {', '.join(there)}"
                f"{did_you_mean(name, there)}, or install the onnxruntime that has it"
            )


def data_file(path: Path) -> Path:
    """Returns where the weights of a graph lie that are too large for its file."""
    return path.with_name(path.name + _DATA_SUFFIX)


def _explained(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())
    if path.name.encode() + _DATA_SUFFIX.encode() in path.read_bytes() and not data_file(path).is_file():
        return f"{data_file(path)} is missing, which holds the weights of {path.name}; put both in one folder"
    if "opset" in reason:
        return f"{path} needs a newer onnxruntime ({reason[:200]}); update it, or export with an older opset"
    return f"{path} cannot be loaded ({reason[:200]}); export the model again"
