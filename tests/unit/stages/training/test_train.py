"""The record of a part that is trained: what is damaged is trained from its last checkpoint, and made again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jukebox_core.base.hashing import digest_file
from stages.training import train
from tests.helpers.damage import KINDS, damage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_record_is_no_record(tmp_path: Path, kind: str) -> None:
    plan: Any = SimpleNamespace(role="top", record=tmp_path / "trained.json", weights=tmp_path / "top.safetensors")
    plan.weights.write_bytes(b"weights")
    digest = digest_file(plan.weights)
    plan.record.write_text(
        f'{{"steps": 3, "settings": "{"a" * 64}", "metrics": {{"loss": 2.0}}, "sha256": "{digest}"}}'
    )
    found = train._recorded(plan, "a" * 64)
    assert found is not None
    assert (found.steps, found.metrics, found.weights.sha256) == (3, {"loss": 2.0}, digest)
    assert train._recorded(plan, "b" * 64) is None
    damage(plan.record, kind, 3)
    again = train._recorded(plan, "a" * 64)
    assert again == (found if kind == "link" else None)
