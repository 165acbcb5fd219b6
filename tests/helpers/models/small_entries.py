"""Entries of models whose files are a few kilobytes: the shape of a shipped entry, other files."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import yaml

from jukebox_core.models.config import WeightsConfig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.servers import Site

PATHS = {"vqvae": "5b/vqvae.pth.tar", **{f"level_{i}": f"5b/prior_level_{i}.pth.tar" for i in range(3)}}


def checkpoint(seed: int) -> bytes:
    tensors = {f"{seed}.w": torch.full((40, 30), float(seed)), "b": torch.arange(7)}
    written = io.BytesIO()
    torch.save({"model": tensors, "hps": {"level": seed, "strides": (2, 2)}, "step": 9, "opt": None}, written)
    return written.getvalue()


CONTENT = {path: checkpoint(number) for number, path in enumerate(PATHS.values())}


def entry(site: Site, folder: Path, **changes: object) -> Path:
    """Writes a model file with the shape of a shipped one and other files; returns its path."""
    specs = {role: {"path": path, "bytes": len(CONTENT[path]), "sha256": None} for role, path in PATHS.items()}
    specs["vqvae"]["sha256"] = hashlib.sha256(CONTENT[PATHS["vqvae"]]).hexdigest()
    files = {
        "weight_sources": ["http://127.0.0.1:9/down", site.url],
        "weights": specs,
        "vocabulary_sources": [site.url],
        "vocabularies": {
            "artists_v3": {"path": "ids/a.txt", "bytes": 4, "sha256": None},
            "genres_v3": {"path": "ids/g.txt", "bytes": 4, "sha256": None},
        },
        "terms": "mine",
        "licence": "Mine (all of it)",
        **changes,
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"defaults": ["mini"], "name": "mine", "files": files, "trained": True}))
    return path


def config(tmp_path: Path, **changes: object) -> WeightsConfig:
    return replace(WeightsConfig(folder=str(tmp_path / "weights"), accept_licence=True), **changes)  # type: ignore[arg-type]
