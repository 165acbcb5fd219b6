"""Bits per token of the top prior on held-out songs, and what artist, genre and lyrics gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.mini.subject import label_row, window_starts
from jukebox_core.composer.styles import ARTISTS, GENRES
from jukebox_core.datasets.windows import read_index
from jukebox_core.evaluation import codes as of_codes
from jukebox_core.tokens.codes import read_codes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.mini.subject import Subject
    from jukebox_core.families.jukebox.model.prior import Prior


def prior(subject: Subject, trained_on: Path | None) -> dict[str, Any]:
    """Returns the top prior's bits per token on held-out songs, with unigram and bigram models as baselines."""
    bins, top = subject.config.vqvae.bins, subject.config.top
    model, music = subject.jukebox.prior(top), []
    for number, codes in enumerate(subject.top_codes):
        for start in window_starts(subject, len(codes)):
            music += _bits(model, codes, start, [label_row(subject, number, start)])
    train = subject.top_codes
    result = {
        "bits": float(np.mean(music)),
        "windows": len(music),
        "unigram_entropy": of_codes.unigram_bits_per_token(train, train, bins),
        "bigram_entropy": of_codes.bigram_bits_per_token(train, train, bins),
    }
    if trained_on is not None:
        train = [
            read_codes(trained_on / song.codes).levels[top].astype(np.int64) for song in read_index(trained_on).songs
        ]
        result["unigram_of_training"] = of_codes.unigram_bits_per_token(train, subject.top_codes, bins)
        result["bigram_of_training"] = of_codes.bigram_bits_per_token(train, subject.top_codes, bins)
    return result


def conditioning(subject: Subject) -> list[dict[str, Any]]:
    """Returns the share of held-out windows whose loss is lower with the right artist, genre or lyrics."""
    rng = np.random.default_rng(1)
    model, scores = subject.jukebox.prior(subject.config.top), subject.held_out.scores
    sung = [number for number, score in enumerate(scores) if score.lyrics]
    gains: dict[str, list[float]] = {"artist": [], "genre": [], "lyrics": []}
    for number, codes in enumerate(subject.top_codes):
        score = scores[number]
        wrong = {
            "artist": str(rng.choice([name for name in ARTISTS if name != score.artist])),
            "genre": str(rng.choice([name for name in GENRES if name != score.genre])),
        }
        others = [each for each in sung if each != number]
        if score.lyrics and others:
            wrong["lyrics"] = scores[int(rng.choice(others))].lyrics
        for start in window_starts(subject, len(codes)):
            rows = [
                label_row(subject, number, start),
                *(label_row(subject, number, start, **{k: v}) for k, v in wrong.items()),
            ]
            right, *worse = _bits(model, codes, start, rows)
            for kind, bits in zip(wrong, worse, strict=True):
                gains[kind].append(bits - right)
    return [
        {
            "right": kind,
            "better_share": float(np.mean(np.array(gained) > 0)),
            "bits_gained": float(np.mean(gained)),
            "windows": len(gained),
        }
        for kind, gained in gains.items()
        if gained
    ]


def _bits(model: Prior, codes: NDArray[np.int64], start: int, rows: Sequence[tuple[int, ...]]) -> list[float]:
    """Returns the music loss of one window, in bits per token, for each of several label rows."""
    window_BT = torch.from_numpy(codes[start : start + model.config.context])[None]
    return [float(model.losses(window_BT, model.condition(torch.tensor([row]))).music) for row in rows]
