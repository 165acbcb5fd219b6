"""The precision of a training that leaves it to the machine."""

from __future__ import annotations

import pytest
import torch

from jukebox_core.training.devices import compute_precision


@pytest.mark.parametrize(("found", "precision"), [({}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed")])
def test_bfloat16_is_used_where_the_cpu_multiplies_it(
    found: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert compute_precision("auto", "cpu") == precision
    assert compute_precision("bf16-true", "cpu") == "bf16-true"


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_is_used_on_gpus_that_have_it(
    supported: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert compute_precision("auto") == precision
