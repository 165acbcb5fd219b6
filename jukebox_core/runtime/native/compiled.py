"""The kernels of this folder: compiled at first use by the machine's own compiler, then kept for later processes."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from jukebox_core.base.paths import cache_dir
from jukebox_core.errors import DeviceError

log = logging.getLogger("jukebox")

SOURCES = tuple(Path(__file__).with_name(name) for name in ("step.cpp", "convolution.cpp"))
HEADER = Path(__file__).with_name("products.h")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    "-std=c++20", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip


@cache
def library() -> ctypes.CDLL:
    """Returns the loaded kernels; compiles them if no process of this machine did so before.

    Raises:
        DeviceError: there is no compiler, or it does not compile them.
    """
    path = _kept()
    if not path.is_file():
        _compile(path)
    loaded = ctypes.CDLL(str(path))
    loaded.step_scratch.restype = loaded.multiply_scratch.restype = ctypes.c_int64
    return loaded


def _kept() -> Path:
    """Returns where the library is kept: a name that changes with the sources, the flags, the compiler and the CPU."""
    causes = hashlib.sha256(b"".join(file.read_bytes() for file in (HEADER, *SOURCES)))
    causes.update(" ".join((_compiler(), *FLAGS, platform.machine(), _cpu())).encode())
    return cache_dir("native") / f"kernels-{causes.hexdigest()[:16]}.so"


def _compiler() -> str:
    chosen = os.environ.get("CXX")
    found = shutil.which(chosen) if chosen else next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None:
        raise DeviceError(
            f"there is no C++ compiler ({chosen or ', '.join(COMPILERS)}); install one, or set hardware.engine=eager"
        )
    return found


def _cpu() -> str:
    """Returns what the CPU can do, for ``-march=native`` compiles for that."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(path: Path) -> None:
    began = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        command = [_compiler(), *FLAGS, *map(str, SOURCES), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a compiler, our files
        if done.returncode:
            raise DeviceError(
                f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}; set hardware.engine=eager, or another CXX"
            )
        built.replace(path)  # whoever compiles beside us makes the same
    log.info("compiled the CPU's kernels in %.1f s; they are kept in %s", time.perf_counter() - began, path.parent)
