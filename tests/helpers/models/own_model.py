"""A user's own model, as small as possible: a yaml file, weights and vocabularies in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from pathlib import Path

ARTISTS = {"unknown": 0, "the_beetles": 1, "organ_trio": 2}
GENRES = {"unknown": 0, "folk": 1, "rock": 2, "slow": 3, "waltz": 4, "pop": 5, "jazz": 6}
ROLES = ("vqvae", "level_0", "level_1", "level_2")
SECONDS = 0.1  # 34 top-level tokens: every level is longer than its context, so has windows that overlap


def write_own_model(folder: Path, *, scale: float = 1.0, width: int = 32) -> Path:
    """Writes a v2 model without lyrics and its files; returns the path of its yaml file.

    Args:
        folder: receives ``own.yaml`` and ``files/``.
        scale: multiplies the priors' untrained weights; above 1 labels matter more.
        width: of the priors.
    """
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    for name, table in (("artists", ARTISTS), ("genres", GENRES)):
        (files / f"{name}.txt").write_text("".join(f"{key};{number}\n" for key, number in table.items()))
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(_model(files, width)))
    _write_weights(path, files, scale)
    return path


def _model(files: Path, width: int) -> dict[str, Any]:
    def prior(level: int, context: int, **more: object) -> dict[str, Any]:
        transformer = {"width": width, "depth": 3, "heads": 2, "attention_order": 2, "blocks": 4}
        labels = {"vocabulary": "v2", "artists": len(ARTISTS), "genres": len(GENRES), "max_genre_words": 5}
        return {"level": level, "context": context, "transformer": transformer, "labels": labels, **more}

    conditioner = {"width": 8, "depth": 2, "dilation_growth": 3}
    timing = {"bins": 8, "min_seconds": 0.05, "max_seconds": 60.0}
    return {
        "name": "own",
        "family": "jukebox",
        "network": {
            "vqvae": {
                "sample_rate": 44100,
                "downs": [3, 2, 2],
                "strides": [2, 2, 2],
                "multipliers": [2, 1, 1],
                "width": 4,
                "depth": 1,
                "embedding_width": 8,
                "bins": 32,
                "dilation_growth": 3,
            },
            "priors": {
                "level_0": prior(0, 256, upsample=conditioner),
                "level_1": prior(1, 128, upsample=conditioner),
                "level_2": prior(2, 32, timing=timing),
            },
        },
        "files": {
            "weight_sources": [files.as_uri()],
            "vocabulary_sources": [files.as_uri()],
            "weights": {role: {"path": f"{role}.safetensors"} for role in ROLES},
            "vocabularies": {"artists_v2": {"path": "artists.txt"}, "genres_v2": {"path": "genres.txt"}},
            "licence": "made up for tests",
        },
    }


def _write_weights(path: Path, files: Path, scale: float) -> None:
    import torch  # a test that only composes settings need not wait for it

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE
    from jukebox_core.models.checkpoints.checkpoint import save_safetensors

    config = load_preset(path).config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_safetensors(VQVAE(config.vqvae), files / "vqvae.safetensors")
        for level, each in enumerate(config.priors):
            prior = Prior(each, config.vqvae)
            with torch.no_grad():
                for parameter in prior.parameters():
                    parameter.mul_(scale)
            save_safetensors(prior, files / f"level_{level}.safetensors")
