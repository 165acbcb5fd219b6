"""The golden vectors: their folder and files."""

from __future__ import annotations

import lzma
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.helpers.paths import SHARED, TESTS

if TYPE_CHECKING:
    from pathlib import Path


def unpack(packed: Path, into: Path) -> Path:
    """Copies a folder, without the ``.xz`` around its files."""
    for file in packed.rglob("*"):
        target = into / file.relative_to(packed)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".xz":
                target.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
            else:
                shutil.copyfile(file, target)
    return into


def golden_source(config: pytest.Config, name: str = "golden") -> Path:
    """The source folder of the golden vectors `name`; its files may be packed (``.xz``)."""
    option = f"--{name.replace('_', '-')}"
    chosen: Path | None = config.getoption(option)
    if chosen is None:
        whole = SHARED / name
        chosen = whole if whole.is_dir() else TESTS / name
    if not chosen.is_dir():
        raise pytest.UsageError(f"{option} {chosen} is not a folder; give one that holds golden vectors")
    return chosen.resolve()


def golden_files(config: pytest.Config, pattern: str) -> dict[str, bytes]:
    """The contents of golden files by their unpacked paths, for tests that are parametrised by them."""
    source = golden_source(config)
    found = sorted(path for suffix in ("", ".xz") for path in source.glob(pattern + suffix))
    return {
        path.relative_to(source).as_posix().removesuffix(".xz"): (
            lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        )
        for path in found
    }
