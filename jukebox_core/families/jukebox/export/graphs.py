"""Describes the graphs of a Jukebox model: ports, sizes to test, and what an application has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jukebox_core.export.graph import Graph, Port
from jukebox_core.families.jukebox.checkpoints.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.config import CODEC
from jukebox_core.families.jukebox.export.codec_graphs import codec_graph
from jukebox_core.families.jukebox.export.names import (
    CONDITION,
    DECODER,
    ENCODER,
    PREFILL,
    cache_axes,
    fold_of,
    kinds_of,
    split_name,
)
from jukebox_core.families.jukebox.export.prior_graphs import ConditionGraph, PrefillGraph, StepGraph, has_signal
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType
from jukebox_core.families.jukebox.model.conditioners import ARTIST, FIRST_GENRE, LENGTH, OFFSET, TOTAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator

    from jukebox_core.export.graph import Axis, Sizes
    from jukebox_core.families.jukebox.config import JukeboxConfig, PriorConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.protocols import WeightFile

_ANY_LENGTH = {AttentionType.DENSE, AttentionType.PRIME, AttentionType.CROSS}


def open_graph(config: JukeboxConfig, name: str, files: Mapping[str, WeightFile]) -> Graph:
    """Returns a graph of a model, with its weights; errors as `load_vqvae` and `load_prior`."""
    part, level = split_name(name)
    if part in (ENCODER, DECODER):
        return codec_graph(load_vqvae(config, files[CODEC].path), part, level)
    prior = load_prior(config, level, files[f"level_{level}"].path)
    return prior_graph(prior, part, config.vqvae.sample_rate, config.hops[level])


def prior_graph(prior: Prior, part: str, sample_rate: int, hop: int) -> Graph:
    """Returns a graph of a loaded prior, which is changed."""
    config = prior.config
    facts = _facts(prior, sample_rate, hop)
    ports, draws = _ports(prior), _Draws(prior, sample_rate, hop)
    condition = tuple(ports[name] for name in ("start", "signal", "encoder") if name in ports)
    caches = _caches(config)
    if part == CONDITION:
        given = tuple(ports[name] for name in ("labels", "above") if name in ports)
        return _graph(f"{part}_{config.level}", ConditionGraph(prior), given, condition, draws, facts)
    if part == PREFILL:
        unit, least, most = _unit(config)
        tokens: Axis = config.positions if least == most else f"{unit}*rows"
        given = (Port("tokens", ("batch", tokens), "int64"), Port("known", (1,), "int64"), *condition)
        rows = {"rows": (least, most)} if least < most else {}
        return _graph(f"{part}_{config.level}", PrefillGraph(prior), given, caches, draws, facts, rows)
    given = (Port("token", ("batch",), "int64"), Port("position", (1,), "int64"), *condition, *caches)
    logits = Port("logits", ("batch", prior.vocabulary), "float32", "logits")
    changed = tuple(
        Port(f"{port.name}_out", port.axes, port.dtype)
        for port, kind in zip(caches, kinds_of(config), strict=True)
        if kind is not AttentionType.CROSS
    )
    return _graph(f"{part}_{config.level}", StepGraph(prior), given, (logits, *changed), draws, facts)


def _graph(
    name: str,
    module: torch.nn.Module,
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
    draws: _Draws,
    facts: dict[str, Any],
    rows: Mapping[str, tuple[int, int]] | None = None,
) -> Graph:
    least, most = (rows or {}).get("rows", (1, 1))
    named = {"rows": (least, most, min(most, least + 1))} if rows else {}
    cases = [
        {"batch": batch, **({"rows": sizes} if rows else {})}
        for batch, sizes in zip((1, 2, 3, 1), (most, *named.get("rows", (1, 1, 1))), strict=True)
    ]
    return Graph(
        name=name,
        module=module.eval(),
        inputs=inputs,
        outputs=outputs,
        example={"batch": 2, "rows": min(most, least + 1)} if rows else {"batch": 2},
        cases=tuple(cases),
        draw=lambda sizes, generator: draws.of(inputs, sizes, generator),
        limits={name: most for name, (_, most) in (rows or {}).items()},
        least={name: least for name, (least, _) in (rows or {}).items()},
        facts=facts,
    )


class _Draws:
    """Random inputs within the ranges of a prior."""

    def __init__(self, prior: Prior, sample_rate: int, hop: int) -> None:
        self.config, self.sample_rate, self.hop = prior.config, sample_rate, hop
        self.vocabulary, self.codes = prior.vocabulary, prior.vocabulary - prior.shift

    def of(self, ports: tuple[Port, ...], sizes: Sizes, generator: Generator) -> tuple[Tensor, ...]:
        return tuple(self._one(port, ports, sizes, generator) for port in ports)

    def _one(self, port: Port, ports: tuple[Port, ...], sizes: Sizes, generator: Generator) -> Tensor:
        shape = port.shape(sizes)
        if port.dtype == "float32":
            return torch.randn(shape, generator=generator)
        if port.name == "labels":
            return self._labels(shape, generator)
        most = {"known": 0, "position": self.config.positions}.get(port.name, self.vocabulary)
        if port.name == "known":
            most = next(each for each in ports if each.name == "tokens").shape(sizes)[1] + 1
        if port.name == "above":
            most = self.codes
        return torch.randint(most, shape, generator=generator)

    def _labels(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        config = self.config
        labels_BN = torch.zeros(shape, dtype=torch.int64)
        if config.lyrics is not None:
            lyrics = (shape[0], config.lyrics.tokens)
            labels_BN[:, -lyrics[1] :] = torch.randint(config.lyrics.characters, lyrics, generator=generator)
        if config.labels is not None:
            labels_BN[:, ARTIST] = torch.randint(config.labels.artists, shape[:1], generator=generator)
            genres = (shape[0], config.labels.max_genre_words)
            drawn = torch.randint(-1, config.labels.genres, genres, generator=generator)
            labels_BN[:, FIRST_GENRE : FIRST_GENRE + genres[1]] = drawn
        window = config.context * self.hop
        labels_BN[:, LENGTH] = window
        longest = int(config.timing.max_seconds * self.sample_rate) if config.timing else 4 * window
        shortest = int(config.timing.min_seconds * self.sample_rate) + 1 if config.timing else window
        shortest, longest = max(shortest, window), max(longest, window + 1)
        labels_BN[:, TOTAL] = torch.randint(shortest, longest, shape[:1], generator=generator)
        share = torch.rand(shape[:1], generator=generator)
        labels_BN[:, OFFSET] = (share * (labels_BN[:, TOTAL] - window).clamp(min=1)).long()
        return labels_BN


def _ports(prior: Prior) -> dict[str, Port]:
    """Returns the ports of conditioning that a prior has."""
    config, width = prior.config, prior.config.transformer.width
    genres = config.labels.max_genre_words if config.labels else 0
    lyrics = config.lyrics.tokens if config.lyrics else 0
    columns = (FIRST_GENRE + genres if config.labels else ARTIST) + lyrics
    ports = {
        "labels": Port("labels", ("batch", columns), "int64"),
        "start": Port("start", ("batch", 1, width), "float32"),
    }
    if config.upsample is not None:
        ports["above"] = Port("above", ("batch", prior.above_tokens), "int64")
    if has_signal(prior):
        ports["signal"] = Port("signal", ("batch", config.context, width), "float32")
    if prior.lyric_encoder is not None:
        ports["encoder"] = Port("encoder", ("batch", lyrics, width), "float32")
    return ports


def _unit(config: PriorConfig) -> tuple[int, int, int]:
    """Returns by how many tokens a prefill may be longer, and how many such units it has at least and at most."""
    kinds, fold = set(kinds_of(config)), fold_of(config)
    keys = min(fold.prime_keys, fold.positions) if AttentionType.PRIME in kinds else 1
    unit = 1 if kinds <= _ANY_LENGTH else fold.columns
    least = 2 if unit > 1 else 3  # of 2 tokens one has a token before it, and a size of 1 becomes a constant
    return unit, max(least, -(-keys // unit)), fold.positions // unit


def _caches(config: PriorConfig) -> tuple[Port, ...]:
    """Returns the port of each layer's cache."""
    return tuple(Port(f"cache_{layer}", axes, "float32") for layer, axes in enumerate(cache_axes(config)))


def _facts(prior: Prior, sample_rate: int, hop: int) -> dict[str, Any]:
    config = prior.config
    lyrics = config.lyrics
    return {
        "sample_rate": sample_rate,
        "level": config.level,
        "hop": hop,
        "context": config.context,
        "positions": config.positions,
        "lyric_positions": config.lyric_positions,
        "shift": prior.shift,
        "vocabulary": prior.vocabulary,
        "labels": "total length, offset and length of the window in audio samples, artist id, genre ids padded with -1"
        + (f", {lyrics.tokens} lyric tokens" if lyrics else ""),
        "cache": "one input a layer, of zeros or from prefill; a step returns the caches that it changed",
        "known": "tokens that are known; prefill reads more, whose values do not matter",
        "loop": [
            "condition once a window; tokens are the lyric tokens, where they share the sequence, then code + shift",
            "prefill with the known tokens, padded with anything; with none, start from caches of zeros",
            "for each position from known on: logits, caches = step(token before, position, ...); of position 0 the "
            "token does not matter, start is read; draw a token of logits / temperature; code = token - shift",
        ],
    }
