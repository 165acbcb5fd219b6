"""VampNet and its fine-tunes, fetched from the hub and from Zenodo on loopback: terms first, then every file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from jukebox_core import models
from jukebox_core.errors import ConfigError, DownloadError
from jukebox_core.models import catalogue
from jukebox_core.models.download import fetch
from jukebox_core.models.presets import load_preset
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    name: name.encode() * 99
    for name in ("codec.pth", "coarse.pth", "c2f.pth", "loras/choir/coarse.pth", "loras/choir/c2f.pth")
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """One site in the place of the hub and of Zenodo; the second has the model, and no fine-tunes."""
    for name in ("JUKEBOX_ACCEPT_LICENCE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "PAUSES", (0.0,))
    with serving({f"hugggof/vampnet/resolve/main/{name}": content for name, content in FILES.items()}) as made:
        for name in ("codec.pth", "coarse.pth", "c2f.pth"):
            made.files[f"zenodo/records/8136629/files/{name}"] = FILES[name]
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def weights(folder: Path, **changes: Any) -> models.WeightsConfig:
    return models.WeightsConfig(folder=str(folder / "w"), **{"accept_licence": True, "pickles": "keep", **changes})


def preset(folder: Path, site: Site, number: int) -> str:
    """The shipped model with one of its sources, moved to loopback."""
    source = load_preset("vampnet").files.weight_sources[number].replace("https://zenodo.org", f"{site.url}/zenodo")
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"defaults": ["vampnet"], "name": "mine", "files": {"weight_sources": [source]}}))
    return str(path)


@pytest.mark.parametrize("number", [0, 1], ids=["hub", "zenodo"])
def test_each_source_has_the_model(site: Site, tmp_path: Path, number: int) -> None:
    model = preset(tmp_path, site, number)
    with pytest.raises(ConfigError, match=r"nothing was fetched: .*CC BY-NC-SA 4\.0"):
        models.fetch([model], weights(tmp_path, accept_licence=False))
    assert not site.requests
    found = models.fetch([model], weights(tmp_path))
    assert {name: path.read_bytes() for name, path in found.items()} == {
        name: FILES[name] for name in ("codec.pth", "coarse.pth", "c2f.pth")
    }
    assert list(json.loads((tmp_path / "w" / "licences.json").read_text())) == ["vampnet-cc-by-nc-sa-4.0"]


def test_a_fine_tune_shares_the_codec_and_has_the_same_terms(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"CC BY-NC-SA 4\.0"):
        models.fetch(["vampnet:choir"], weights(tmp_path, accept_licence=False))
    models.fetch(["vampnet"], weights(tmp_path))
    asked = len(site.requests)
    found = models.fetch(["vampnet:choir"], weights(tmp_path))
    assert {name: path.read_bytes() for name, path in found.items()} == {
        name: FILES[name] for name in ("codec.pth", "loras/choir/coarse.pth", "loras/choir/c2f.pth")
    }
    assert not [path for path, _ in site.requests[asked:] if path.endswith("codec.pth")], "it is here already"
    assert set(catalogue.paths("vampnet:choir", weights(tmp_path))) == {"codec", "coarse", "c2f"}


def test_an_unknown_fine_tune_is_one_error(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"loras/opera/coarse\.pth"):
        models.fetch(["vampnet:opera"], weights(tmp_path))
