"""Fixtures that every test folder shares."""

from __future__ import annotations

import lzma
import shutil
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parent.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        metavar="DIR",
        type=Path,
        default=None,
        help="folder of golden vectors (default: ../shared/golden where that exists, else tests/golden)",
    )


def _unpack(packed: Path, into: Path) -> Path:
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


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of golden vectors; what a test needs from it may be absent and is then skipped by name."""
    chosen: Path | None = request.config.getoption("--golden")
    if chosen is None:
        whole = SHARED / "golden"
        chosen = whole if whole.is_dir() else TESTS / "golden"
    if not chosen.is_dir():
        raise pytest.UsageError(f"--golden {chosen} is not a folder; give one that holds golden vectors")
    if any(chosen.rglob("*.xz")):
        return _unpack(chosen, tmp_path_factory.mktemp("golden"))
    return chosen.resolve()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with vocabularies and clips; absent in a fresh clone."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    return SHARED


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """One thread, so that sums are added in one order; only where a test has loaded torch, which takes seconds."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
