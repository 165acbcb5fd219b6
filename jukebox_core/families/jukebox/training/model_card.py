"""The folder that training ends in: weights, vocabularies, model.yaml and a card, to sample from at once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import yaml

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest_file
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.families.jukebox.config import PriorsConfig, level_of
from jukebox_core.models.config import FileSpec, ModelFiles
from jukebox_core.models.resolve import seed_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.families.jukebox.training.alignment_head import AlignmentHead
    from jukebox_core.models.presets import ModelSettings

MODEL_NAME = "model.yaml"
CARD_NAME = "README.md"


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """What is known of one part that was trained."""

    steps: int
    checked: Mapping[str, float]  # metrics on held-out data


@dataclass(frozen=True, kw_only=True, slots=True)
class Making:
    """What went into a model."""

    parts: Mapping[str, TrainedPart]  # by role
    given: Mapping[str, Path]  # files of parts that were not trained, by role
    changed: frozenset[str] = frozenset()  # which of them are no longer the base model's
    vocabularies: Mapping[str, Path]  # by role
    head: AlignmentHead | None
    data: str  # a line on what it was trained on
    licence: str


def write_folder(folder: Path, base: ModelSettings, making: Making) -> Path:
    """Writes a model's folder around its trained weights, which lie there; returns the path of its model.yaml.

    Weights that were not trained stay with the base model's sources; those of an untrained base are copied.
    """
    weights = {}
    for role, spec in base.files.weights.items():
        if role in making.parts:
            weights[role] = _spec(folder / f"{role}.safetensors", base.name, "trained here")
        elif role in making.changed or seed_of(base.files) is not None:
            copy = folder / f"{role}.safetensors"
            if making.given[role].resolve() != copy.resolve():
                shutil.copyfile(making.given[role], copy)
            weights[role] = _spec(copy, base.name, "with rows for new names" if role in making.changed else "untrained")
        else:
            weights[role] = replace(spec, sources=(*spec.sources, *base.files.weight_sources))
    vocabularies = {}
    for role, path in making.vocabularies.items():
        copy = folder / f"{role}.txt"
        if path.resolve() != copy.resolve():
            shutil.copyfile(path, copy)
        vocabularies[role] = _spec(copy, base.name, base.files.vocabularies[role].purpose)
    files = ModelFiles(
        weight_sources=("./",),
        vocabulary_sources=("./",),
        weights=weights,
        vocabularies=vocabularies,
        licence=making.licence,
        terms=None if set(making.parts) == set(base.files.weights) else base.files.terms,
    )
    model = replace(
        base,
        files=files,
        trained=True,
        network=replace(base.network, priors=_with_head(base.network.priors, making.head)),
    )
    with atomic_write(folder / CARD_NAME) as file:
        file.write(card(model, making).encode())
    with atomic_write(folder / MODEL_NAME) as file:  # last: where it lies, the model is whole
        file.write(yaml.safe_dump(to_plain(model), sort_keys=False, allow_unicode=True).encode())
    return folder / MODEL_NAME


def card(model: ModelSettings, making: Making) -> str:
    """Returns the model's card, Markdown."""
    rate, hops = model.config.sample_rate, model.config.hops
    lines = [
        f"# {model.name}",
        "",
        f"A Jukebox model at {rate:,} Hz; {', '.join(f'{rate / hop:,.0f}' for hop in hops)} tokens a second, "
        f"bottom level first; {model.config.bins} codes a level.",
        "",
        f"- Trained on: {making.data}",
        f"- Licence: {making.licence}",
    ]
    if making.head is not None:
        head = making.head
        lines.append(f"- Lyrics are followed by head {head.head} of layer {head.layer} (score {head.score:.2f})")
    lines += ["", "| part | steps | on held-out music |", "|---|---|---|"]
    for role in model.files.weights:
        part = making.parts.get(role)
        told = _measured(role, part.checked) if part else "as it was"
        lines.append(f"| {role} | {part.steps if part else ''} | {told} |")
    lines += ["", "Sample from it with `jukebox generate model=<this folder>`.", ""]
    return "\n".join(lines)


def _measured(role: str, checked: Mapping[str, float]) -> str:
    if role == "vqvae":
        chosen = {"spectral_convergence": "spectral convergence", "recons_loss": "reconstruction loss"}
        chosen |= {f"multispectral_loss_l{level}": f"level {level - 1} spectral distance" for level in (1, 2, 3)}
    else:
        chosen = {"bits": f"bits a token of level {level_of(role)}", "lyric_bits": "bits a character"}
    return ", ".join(f"{words} {checked[name]:.3f}" for name, words in chosen.items() if name in checked)


def _spec(path: Path, model: str, purpose: str) -> FileSpec:
    return FileSpec(path=path.name, bytes=path.stat().st_size, sha256=digest_file(path), purpose=f"{model}: {purpose}")


def _with_head(priors: PriorsConfig, head: AlignmentHead | None) -> PriorsConfig:
    if head is None:
        return priors
    plain: dict[str, Any] = to_plain(priors)
    plain[f"level_{len(priors) - 1}"]["lyrics"] |= {"alignment_layer": head.layer, "alignment_head": head.head}
    return build(type(priors), plain)
