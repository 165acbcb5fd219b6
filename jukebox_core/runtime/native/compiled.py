"""Just-in-time compilation of this folder's kernels by the machine's compiler, cached for later processes."""

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

SOURCES = tuple(
    Path(__file__).with_name(name) for name in ("step.cpp", "feed_forward.cpp", "convolution.cpp", "copies.cpp")
)
HEADERS = tuple(Path(__file__).with_name(name) for name in ("weights.h", "tiles.h", "products.h", "layers.h"))
COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    "-std=c++20", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip

_failed: dict[Path, str] = {}  # messages of compilations that failed: each took its time, and would fail again


@cache
def library() -> ctypes.CDLL:
    """Returns the loaded kernels; compiles them if they are not in the cache.

    Raises:
        DeviceError: no compiler is found, or it fails.
    """
    path = _cached_path()
    if not path.is_file():
        if path in _failed:
            raise DeviceError(_failed[path])
        try:
            _compile(path)
        except DeviceError as error:
            _failed[path] = str(error)
            raise
    loaded = ctypes.CDLL(str(path))
    for scratch in (loaded.step_scratch, loaded.multiply_scratch, loaded.feed_forward_scratch):
        scratch.restype = ctypes.c_int64
    return loaded


@cache
def is_compiled() -> bool:
    """Returns whether the kernels are in the cache, so that `library` has them at once."""
    try:
        return _cached_path().is_file()
    except DeviceError:
        return False


def _cached_path() -> Path:
    """Returns the library's path in the cache; its name is a hash of the sources, flags, compiler and CPU."""
    causes = hashlib.sha256(b"".join(file.read_bytes() for file in (*HEADERS, *SOURCES)))
    causes.update(" ".join((_compiler(), *FLAGS, platform.machine(), _cpu())).encode())
    return cache_dir("native") / f"kernels-{causes.hexdigest()[:16]}.so"


def _compiler() -> str:
    chosen = os.environ.get("CXX")
    found = shutil.which(chosen) if chosen else next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None:
        raise DeviceError(
            f"no C++ compiler found ({chosen or ', '.join(COMPILERS)}); install one, or set hardware.engine=eager"
        )
    return found


def _cpu() -> str:
    """Returns the CPU's feature flags, which ``-march=native`` compiles for."""
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
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own sources
        if done.returncode:
            raise DeviceError(
                f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}; set hardware.engine=eager, or another CXX"
            )
        built.replace(path)  # atomic; a concurrent process compiles the same
    log.info("compiled the CPU kernels in %.1f s; cached in %s", time.perf_counter() - began, path.parent)
