"""Identity of the machine, without any package: the standalone fetch needs no psutil. Imports no torch."""

from __future__ import annotations

from pathlib import Path


def machine_id() -> str | None:
    """Returns an identity of this boot and PID namespace, within which a PID denotes one process; None if unknown."""
    boot = boot_id()
    try:
        return None if boot is None else f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def boot_id() -> str | None:
    """Returns the system's random identity of this boot; None where it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
