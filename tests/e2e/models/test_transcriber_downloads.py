"""The entries of models that transcribe, fetched from git-lfs, the hub and web servers on loopback."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from jukebox_core import models
from jukebox_core.errors import ConfigError, DownloadError
from jukebox_core.models.download import fetch
from jukebox_core.models.presets import load_preset
from jukebox_core.models.records import Records
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = random.Random(7).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(CONTENT)}\n".encode()
HOSTS = ("https://github.com", "https://raw.githubusercontent.com", "https://huggingface.co")
MODELS = ["mt3", "mr_mt3", "yourmt3"]
ENTRIES = [(name, number) for name in MODELS for number in range(len(load_preset(name).files.weight_sources))]


@dataclass
class Internet:
    """One site in the place of all hosts, and the model file in `folder` that reads from it."""

    site: Site
    folder: Path

    def weights(self, **changes: Any) -> models.WeightsConfig:
        return models.WeightsConfig(
            folder=str(self.folder / "weights"), **{"accept_licence": True, "pickles": "keep", **changes}
        )

    def entry(self, name: str, sources: list[str]) -> str:
        """A model file that is the shipped entry, with the loopback's address for the hosts' and CONTENT's digest."""
        published = load_preset(name).files.weights["transcriber"]
        known = {"bytes": published.bytes and len(CONTENT), "sha256": published.sha256 and SHA256}
        path = self.folder / f"my_{name}.yaml"
        files = {"weight_sources": sources, "weights": {"transcriber": known}}
        path.write_text(yaml.safe_dump({"defaults": [name], "name": f"my_{name}", "files": files}))
        return str(path)

    def moved(self, address: str) -> str:
        for host in HOSTS:
            address = address.replace(host, self.site.url)
        return address


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    for name in ("JUKEBOX_ACCEPT_LICENCE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "PAUSES", (0.0,))
    with serving({"bytes": CONTENT}) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        site.accept_ranges = True
        for name in MODELS:
            _publish(site, name)

        def batch(path: str, body: bytes) -> bytes:
            assert path.endswith(".git/info/lfs/objects/batch")
            [wanted] = json.loads(body)["objects"]
            assert wanted == {"oid": SHA256, "size": len(CONTENT)}
            action = {"download": {"href": f"{site.url}/bytes"}}
            return json.dumps({"objects": [{**wanted, "actions": action}]}).encode()

        site.post = batch
        yield Internet(site, tmp_path)


def _publish(site: Site, name: str) -> None:
    """Puts the file of an entry where its sources say: a pointer among raw files, a redirect on the hub."""
    files = load_preset(name).files
    path = files.weights["transcriber"].path.replace("=", "%3D")
    for address in files.weight_sources:
        if address.startswith("hf://"):
            target = f"/{address.removeprefix('hf://')}/resolve/main/{path}"
            site.redirects[target] = (f"{site.url}/bytes", {"X-Linked-Etag": f'"{SHA256}"'})
        else:
            raw = address.partition("#")[2]
            host = next(host for host in HOSTS if raw.startswith(host))
            site.files[f"{raw.removeprefix(host).lstrip('/')}/{path}"] = POINTER


@pytest.mark.parametrize(("name", "number"), ENTRIES, ids=str)
def test_every_source_of_every_entry_delivers(internet: Internet, name: str, number: int) -> None:
    source = internet.moved(load_preset(name).files.weight_sources[number])
    model = internet.entry(name, [source])
    with pytest.raises(ConfigError, match=r"nothing was fetched: .*none declared for these weights"):
        models.fetch([model], internet.weights(accept_licence=False))
    assert not internet.site.requests
    [path] = models.fetch([model], internet.weights()).values()
    assert path.read_bytes() == CONTENT
    asked = len(internet.site.requests)
    assert list(models.fetch([model], internet.weights(accept_licence=False)).values()) == [path]
    assert len(internet.site.requests) == asked
    noted = json.loads((internet.folder / "weights" / "licences.json").read_text())
    assert list(noted) == [load_preset(name).files.terms]


@pytest.mark.parametrize("name", MODELS)
def test_a_web_server_of_ones_own_and_a_wrong_file(internet: Internet, name: str) -> None:
    quoted = load_preset(name).files.weights["transcriber"].path.replace("=", "%3D")
    internet.site.files[f"mine/{quoted}"] = CONTENT
    model = internet.entry(name, [f"{internet.site.url}/mine"])
    [here] = models.fetch([model], internet.weights()).values()
    assert here.read_bytes() == CONTENT
    here.unlink()
    internet.site.files[f"mine/{quoted}"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(DownloadError, match="sha256"):  # as published, or as the first download recorded
        models.fetch([model], internet.weights())
    assert not here.exists()


def test_several_models_are_fetched_at_once_and_the_second_source_stands_in(internet: Internet) -> None:
    dead = f"lfs+{internet.site.url}/nowhere.git#{internet.site.url}/nowhere"
    sources = {name: list(map(internet.moved, load_preset(name).files.weight_sources)) for name in MODELS}
    chosen = [internet.entry(name, [dead, *sources[name]]) for name in ("mr_mt3", "mt3")]
    assert len(models.fetch(chosen, internet.weights())) == 2
    folders = [path.parent for path in (internet.folder / "weights").rglob("fetched.json")]
    assert {record.source.partition(":")[0] for each in folders for record in Records(each).read().values()} == {
        "hf", "lfs+http",
    }  # fmt: skip
