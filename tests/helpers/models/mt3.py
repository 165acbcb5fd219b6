"""Golden vectors of MT3 as this program's records: bundles, configurations, notes."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

from jukebox_core.families.mt3.config import (
    FrontEndConfig,
    MemoryConfig,
    MT3Network,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

NETWORK = {"atol": 5e-5, "rtol": 1e-4}  # of encoder states and logits, from the README of the golden vectors
TIME = 1e-9  # seconds


def bundles(golden: Path, name: str, kind: str | None = None) -> list[Path]:
    """The folders that hold a file called `name`, below the folder `kind`; skips the test if there are none."""
    found = sorted(path.parent for path in golden.rglob(name) if kind is None or path.parent.name == kind)
    if not found:
        pytest.skip(f"{golden} has no {kind or ''}/{name}")
    return found


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as opened:
        return dict(opened)


def tensors(path: Path) -> dict[str, Tensor]:
    """Arrays as tensors; integers are int64."""
    made = {name: torch.from_numpy(values) for name, values in arrays(path).items()}
    return {name: each if each.is_floating_point() else each.long() for name, each in made.items()}


def checkpoint_in(folder: Path) -> Path:
    [found] = [path for path in folder.iterdir() if path.suffix in (".pth", ".ckpt")]
    return found


def vocabulary(data: dict[str, Any], **options: Any) -> VocabularyConfig:
    steps = data["steps_per_second"]
    return VocabularyConfig(
        steps_per_second=steps,
        max_shift_steps=steps * data["max_shift_seconds"],
        velocity_bins=data["num_velocity_bins"],
        **options,
    )


def network(config: dict[str, Any], memory: int | None = None) -> MT3Network:
    """The sizes in a ``config.json`` of upstream; models with a memory have MR-MT3's front end."""
    front_end = {"slopes": "hz", "normalise": True} if memory is not None else {}
    return MT3Network(
        front_end=FrontEndConfig(mels=config["d_model"], **front_end),  # type: ignore[arg-type]
        vocabulary=VocabularyConfig(),
        transformer=TransformerConfig(
            width=config["d_model"],
            heads=config["num_heads"],
            head_width=config["d_kv"],
            mlp_width=config["d_ff"],
            encoder_depth=config["num_layers"],
            decoder_depth=config["num_decoder_layers"],
            embeddings=config["vocab_size"],
        ),
        memory=None if memory is None else MemoryConfig(length=memory, depth=config["segmem_num_layers"]),
    )


def notes_of(rows: Iterable[Sequence[Any]]) -> list[Note]:
    """Notes of rows that may have an instrument number as well."""
    return [Note(*row[:6]) for row in rows]


def same_notes(found: Iterable[Note], expected: Iterable[Sequence[Any]]) -> bool:
    """Whether notes are the same, in any order; times to within a nanosecond."""
    ours, theirs = Notes.of(found), Notes.of(notes_of(expected))
    return len(ours) == len(theirs) and all(
        a[2:] == b[2:] and abs(a.start - b.start) < TIME and abs(a.end - b.end) < TIME
        for a, b in zip(ours, theirs, strict=True)
    )


def padded(rows: Iterable[Sequence[int]], length: int) -> list[list[int]]:
    """Rows of ids with the start token, filled with 0."""
    return [[0, *row, *[0] * (length - 1 - len(row))] for row in rows]


def write_preset(path: Path, chain: Path, **files: Any) -> Path:
    """A preset of the trained model of a chain, whose file is read where it is; returns its path."""
    config, checkpoint = load(chain / "config.json"), checkpoint_in(chain)
    sizes = network(config).transformer
    data = {
        "defaults": ["mt3"],
        "name": "chain",
        "network": {"front_end": {"mels": config["d_model"]}, "transformer": dataclasses.asdict(sizes)},
        "files": {
            "weight_sources": [str(checkpoint.parent)],
            "weights": {"transcriber": {"path": checkpoint.name, "bytes": None, "sha256": None}},
            "licence": "none, it is made of noise",
            "terms": None,
            **files,
        },
    }
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def write_tiny_preset(folder: Path, memory: int | None = None, frames: int = 32) -> Path:
    """A preset of a random model of a few thousand parameters, whose notes differ from segment to segment."""
    sizes = TransformerConfig(
        width=16, heads=2, head_width=8, mlp_width=16, encoder_depth=1, decoder_depth=1, positions="port", max_tokens=32
    )
    made = MT3Network(
        front_end=FrontEndConfig(mels=16, segment_frames=frames),
        vocabulary=VocabularyConfig(),
        transformer=sizes,
        memory=None if memory is None else MemoryConfig(length=memory),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1 if memory is None else 0)  # of ten seeds, those with the most notes
        model = MT3(made)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.6)
    save_safetensors(model, folder / "tiny.safetensors", {})
    data = {
        "defaults": ["mt3"],
        "name": "tiny",
        "network": {
            "front_end": {"mels": 16, "segment_frames": frames},
            "transformer": dataclasses.asdict(sizes),
            "memory": None if memory is None else {"length": memory, "depth": 1},
        },
        "files": {
            "weight_sources": [str(folder)],
            "weights": {"transcriber": {"path": "tiny.safetensors", "bytes": None, "sha256": None}},
            "licence": "none, it is made of noise",
            "terms": None,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path
