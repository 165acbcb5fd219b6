"""Golden bundles that no test compares in full yet: each is skipped by name, so that a report lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.helpers.golden import golden_files

if TYPE_CHECKING:
    from pathlib import Path

COMES_WITH = {
    "prior_*/alignment.json": "alignment",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bundle" in metafunc.fixturenames:
        found = {
            path: later for pattern, later in COMES_WITH.items() for path in golden_files(metafunc.config, pattern)
        }
        bundles = [(path.removesuffix(".json"), later) for path, later in found.items()]
        metafunc.parametrize(("bundle", "later"), bundles, ids=[name for name, _ in bundles])
    elif "pipeline" in metafunc.fixturenames:
        found = golden_files(metafunc.config, "pipeline_*/pipeline.json")
        metafunc.parametrize("pipeline", [path.partition("/")[0] for path in found])


def test_bundle(bundle: str, later: str) -> None:
    pytest.skip(f"{bundle} comes with {later}")


def test_alignment_of_a_run(golden: Path, pipeline: str) -> None:
    with np.load(golden / pipeline / "io.npz") as arrays:
        later = [name for name in arrays.files if ".align" in name]
    if later:
        pytest.skip(f"{pipeline}: {', '.join(later)} come with alignment")
