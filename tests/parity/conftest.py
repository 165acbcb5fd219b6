"""Fixtures of the parity tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.models.golden_features import GoldenNetworks
from tests.helpers.models.golden_priors import need
from tests.helpers.paths import SHARED

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def about(golden: Path) -> dict[str, Any]:
    """Constants and cases of the golden features."""
    found: dict[str, Any] = json.loads(need(golden / "features/features.json").read_text())
    return found


@pytest.fixture(scope="module")
def networks(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> GoldenNetworks:
    """The model of the recipes, with the released vocabularies where they are, else with some that know no name."""
    names = {f"{noun}s_v2": f"v2_{noun}_ids.txt" for noun in ("artist", "genre")}
    folder = SHARED / "vocab"
    if not all((folder / name).is_file() for name in names.values()):
        folder = tmp_path_factory.mktemp("vocab")
        for name in names.values():
            (folder / name).write_text("unknown;0\n")
    return GoldenNetworks(golden, {role: folder / name for role, name in names.items()})
