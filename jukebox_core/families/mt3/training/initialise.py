"""Random weights to start from: as T5 is initialised, with heads that begin as filters over time.

A small model learns slowly from absolute positions what neighbouring frames have to do with each other, and from
spectrograms what a pitch is. So the dimensions of the fastest positions hold nothing else at first, in the first layers
each head attends to the frame at one distance, and others of the first dimensions are combs for the harmonics of a
pitch. Training is free to change all of this.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.transformer import MT3, Attention, EncoderLayer, Stack
from jukebox_core.families.mt3.training.targets import mel_front_end

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network

_DISTANCES = ((-1, 1, -3, 3), (-2, 2, -5, 5))  # in frames, of the heads of the first encoder layers, in turn
_CROSS = (0, -2, 2, -4)  # of the first decoder layer's heads, from the frame of a shift
_SHARPNESS = 1.75  # of these heads
_PITCHES = range(32, 100)  # that the first layer begins with, as far as there is room
_HARMONICS = 8
_CONTRAST = 8.0  # of frames that are scaled to [0, 1], in which bins differ by a tenth
_SHIFT_SCALE = 2.0  # of the embeddings of shifts, so that the positions of ids do not hide them


def new_model(network: MT3Network, seed: int) -> MT3:
    """Returns a network with random weights, drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MT3(network)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for module in model.modules():
            if isinstance(module, Attention):  # attention is not scaled
                inner, width = module.q.weight.shape
                nn.init.normal_(module.q.weight, std=(width * inner / module.heads) ** -0.5)
        nn.init.normal_(model.head.weight, std=0.05)
        weight = model.project.weight.detach()
        weight -= weight.mean(dim=1, keepdim=True)  # a frame's level says little
        weight *= _CONTRAST if mel_front_end(network).normalise else 1.0
        nn.init.normal_(model.embedding.weight, std=0.5)
    with torch.no_grad():
        _point_shifts_at_frames(model)
        places = _filter_over_time(model)
        _listen_for_pitches(model, places)
    return model.requires_grad_(requires_grad=True)


def _point_shifts_at_frames(model: MT3) -> None:
    """Makes the embedding of each shift the position of the frame at which it points."""
    config, front_end = model.config.vocabulary, mel_front_end(model.config)
    vocabulary = vocabulary_of(config)
    first = vocabulary.to_ids([vocabulary.index("shift", 0)])[0]
    steps = config.steps_per_second * front_end.segment_samples // front_end.sample_rate
    count = min(config.max_shift_steps, steps) + 1
    frames = torch.arange(count) * front_end.sample_rate / front_end.hop / config.steps_per_second
    angles = frames[:, None] * _encoder(model).frequencies
    model.embedding.weight[first : first + count] = _SHIFT_SCALE * torch.cat([angles.sin(), angles.cos()], dim=-1)


def _listen_for_pitches(model: MT3, positions: Tensor) -> None:
    """Makes each of the dimensions without positions a comb for the harmonics of one pitch."""
    front_end = mel_front_end(model.config)
    edges = torch.linspace(_mel(front_end.low_hz), _mel(front_end.high_hz), front_end.mels + 2)[1:-1]
    width = float(edges[1] - edges[0])
    free = [place for place in range(model.config.transformer.width) if place not in set(positions.tolist())]
    for place, pitch in zip(free, _PITCHES, strict=False):
        comb = torch.zeros(front_end.mels)
        for half in range(1, 2 * _HARMONICS + 1):
            hertz = 440.0 * 2 ** ((pitch - 69) / 12) * (half + 1) / 2
            tooth = (-0.5 * ((edges - _mel(hertz)) / width).square()).exp() * half**-0.5
            comb += tooth if half % 2 else -tooth
        comb -= comb.mean()
        model.project.weight[place] = comb / comb.norm() * model.project.weight[place].norm()


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def _filter_over_time(model: MT3) -> Tensor:
    """Makes the first layers filters; returns the dimensions that hold positions."""
    sizes = model.config.transformer
    used = min(sizes.head_width // 2, sizes.width // 8)  # frequencies, the fastest ones
    places = torch.cat([torch.arange(used), sizes.width // 2 + torch.arange(used)])
    # 1) nothing but positions in their dimensions
    model.project.weight[places] = 0.0
    for layer in _encoder(model).layers:
        assert isinstance(layer, EncoderLayer)
        layer.attention.o.weight[places] = 0.0
        layer.feed_forward.wo.weight[places] = 0.0
    # 2) heads at distances
    rates = _encoder(model).frequencies[:used]
    for layer, distances in zip(_encoder(model).layers, _DISTANCES, strict=False):
        _attend_at(layer.attention, distances, rates, places)  # type: ignore[arg-type]
    _attend_at(model.decoder.layers[0].cross, _CROSS, rates, places)  # type: ignore[arg-type]
    return places


def _encoder(model: MT3) -> Stack:
    assert isinstance(model.encoder, Stack), "checked before a training"
    return model.encoder


def _attend_at(attention: Attention, distances: tuple[int, ...], rates: Tensor, places: Tensor) -> None:
    """Makes each head attend at one distance d: query and key give the sum of cos(rate * (k - q - d)) over all rates.

    sin(a + d) = sin a cos d + cos a sin d, and cos(a + d) = cos a cos d - sin a sin d
    """
    used, size = len(rates), attention.q.out_features // attention.heads
    for head in range(attention.heads):
        turn = rates * distances[head % len(distances)]
        rows = slice(head * size, head * size + 2 * used)
        query, key = (
            torch.zeros(2 * used, len(attention.q.weight[0])),
            torch.zeros(2 * used, len(attention.q.weight[0])),
        )
        at = torch.arange(used)
        sines, cosines = places[:used], places[used:]
        query[at, sines], query[at, cosines] = turn.cos(), turn.sin()
        query[used + at, sines], query[used + at, cosines] = -turn.sin(), turn.cos()
        key[torch.arange(2 * used), places] = 1.0
        attention.q.weight[rows], attention.k.weight[rows] = _SHARPNESS * query, _SHARPNESS * key
