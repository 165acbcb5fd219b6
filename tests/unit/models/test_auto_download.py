"""``weights.auto_download=false``: nothing is fetched at first use, and `models fetch` fetches all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jukebox_core import models
from jukebox_core.api.model import load_model
from jukebox_core.errors import ConfigError, DownloadError
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from pipelines import licence_prompt
from pipelines.cli.models import run
from tests.helpers.models.small_entries import config
from tests.helpers.servers.servers import Site  # noqa: TC001  a fixture's type

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("plain_fetches")


def test_missing_files_are_named_and_no_server_is_asked(site: Site, tmp_path: Path, small_model: str) -> None:
    weights = config(tmp_path, auto_download=False, accept_licence=False)
    with pytest.raises(DownloadError) as caught:
        obtain_weights(load_preset(small_model), weights)
    text = str(caught.value)
    assert text.startswith("weights.auto_download is false, and 4 files are not on this machine; fetch them with")
    assert "or set weights.auto_download=true:" in text
    licence_prompt.ask(load_preset(small_model).files, weights)  # nothing will be fetched, so nothing is asked
    assert not site.requests


def test_asked_to_fetch_they_are_fetched_and_then_found(
    site: Site, tmp_path: Path, small_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = config(tmp_path, auto_download=False)
    run(["fetch", small_model, "weights.auto_download=false", "weights.accept_licence=true",
         f"weights.folder={weights.folder}", "weights.pickles=keep"])  # fmt: skip
    assert "level_2" in capsys.readouterr().out
    asked = len(site.requests)
    found = obtain_weights(load_preset(small_model), replace(weights, pickles="keep"))
    assert all(each.path.is_file() for each in found.values())
    assert len(site.requests) == asked


def test_from_python_too(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"(?s)auto_download is false, and 1 file .*fetch it with .*mt3\.pth"):
        load_model("mt3", folder=tmp_path, auto_download=False).transcribe([0.0] * 1600)


def test_the_terms_of_all_models_are_checked_before_the_first_byte(
    site: Site, tmp_path: Path, small_model: str
) -> None:
    free = tmp_path / "free.yaml"
    free.write_text("defaults: [mine]\nname: free\nfiles:\n  licence: none\n  terms: null\n")
    with pytest.raises(ConfigError, match="nothing was fetched"):
        models.fetch([str(free), small_model], config(tmp_path, accept_licence=False))
    assert not site.requests
