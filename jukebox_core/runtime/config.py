"""Hardware settings as a frozen record. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from jukebox_core.errors import ConfigError, did_you_mean

DEVICES = ("auto", "cpu", "cuda", "mps")

ENGINE_VERSION = 5
"""Incremented whenever a change of the code can change sampled tokens; part of every window's key."""


_THREADS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class HardwareConfig:
    """Device, precision, engine and batch sizes. None of these but `dtype` can change a key."""

    device: str = "auto"  # auto, cpu, cuda, cuda:<index> or mps
    # auto: as suits the device and its memory; int8: weight-only, activations are bfloat16
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    # implementation of decode steps; onnx: all networks, as exported graphs in onnxruntime
    engine: Literal["auto", "eager", "native", "compiled", "graph", "onnx"] = "auto"
    providers: tuple[str, ...] = ("CPUExecutionProvider",)  # of onnxruntime, the preferred first; for engine=onnx
    batch_size: int | None = None  # largest batch of samples; null: as many as fit
    prefill_chunk: int = 512  # tokens per forward pass of the prefill
    threads: int | None = None  # CPU threads; null: torch's default

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            hint = did_you_mean(self.device, DEVICES)
            raise ConfigError(f"device is {self.device!r}; choose one of {', '.join(DEVICES)} or cuda:<index>{hint}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1, or null for as many as fit")
        if self.prefill_chunk < 1:
            raise ConfigError(f"prefill_chunk is {self.prefill_chunk}; it must be at least 1")
        if not self.providers:
            raise ConfigError("providers is empty; name at least one, as CPUExecutionProvider")
        if self.threads is not None and not 1 <= self.threads <= _THREADS:
            raise ConfigError(
                f"threads is {self.threads}; it must be from 1 to {_THREADS:,}, or null for torch's default"
            )
