"""Devices, precisions and free memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from jukebox_core.errors import DeviceError

if TYPE_CHECKING:
    from jukebox_core.runtime.config import HardwareConfig

# Dtypes of stored weights, and of computation: activations and KV caches.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}
COMPUTE_DTYPES = DTYPES | {"int8": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """Returns the device of that name; ``auto`` is CUDA if available, else MPS, else the CPU.

    Raises:
        DeviceError: the device is not available; the message lists those that are.
    """
    if name == "auto":
        return torch.device(available_devices()[-1])
    if name not in available_devices():
        raise DeviceError(
            f"device {name!r} is not available; this machine has {', '.join(available_devices())}: "
            "set hardware.device to one of them, or to auto"
        )
    return torch.device(name)


def available_devices() -> list[str]:
    """Returns the names of this machine's devices, the fastest kind last."""
    devices = ["cpu"]
    if torch.backends.mps.is_available():
        devices.append("mps")
    if torch.cuda.is_available():
        devices += [f"cuda:{index}" for index in reversed(range(torch.cuda.device_count()))] + ["cuda"]
    return devices


def free_memory(device: torch.device) -> int:
    """Returns the free memory of `device` in bytes (of the host for MPS and CPU)."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - a kernel file
            found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return found["MemAvailable"]
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def kind_and_memory(device: torch.device) -> tuple[str, int]:
    """Returns ``cpu``, ``mps``, ``cuda`` or ``old cuda`` (without bfloat16), and the device's total memory in bytes."""
    if device.type != "cuda":
        return device.type, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kind = "cuda" if torch.cuda.is_bf16_supported(including_emulation=False) else "old cuda"
    return kind, torch.cuda.get_device_properties(device).total_memory


def use_threads(hardware: HardwareConfig) -> None:
    """Sets torch's number of CPU threads, if the configuration gives one."""
    if hardware.threads is not None and torch.get_num_threads() != hardware.threads:
        torch.set_num_threads(hardware.threads)
