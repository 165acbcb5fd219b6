"""Distance of decoded audio to the original by level, with untrained codes and mu-law as baselines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.comparison import comparison_png
from benchmarks.mini.subject import DRAWN
from jukebox_core.evaluation import codes as of_codes
from jukebox_core.evaluation import sound as of_sound
from jukebox_core.families.jukebox.checkpoints.initialise import write_seeded
from jukebox_core.families.jukebox.checkpoints.loading import load_vqvae

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.mini.subject import Subject
    from jukebox_core.families.jukebox.model.vqvae import VQVAE

_PIECE_SECONDS = 4.0  # of each song


def reconstruction(subject: Subject, pictures: Path | None) -> list[dict[str, Any]]:
    """Returns the distance of decoded audio to the original by level, with untrained codes and mu-law as baselines."""
    config = subject.config.vqvae
    length = int(_PIECE_SECONDS * config.sample_rate) // config.hops[-1] * config.hops[-1]
    pieces = [audio[:length] for audio in subject.held_out.audio]
    with tempfile.TemporaryDirectory() as folder:
        write_seeded(subject.config, "vqvae", 1, Path(folder) / "vqvae.safetensors")
        untrained = load_vqvae(subject.config, Path(folder) / "vqvae.safetensors")
    rows = []
    for level, hop in enumerate(config.hops):
        bits = config.sample_rate / hop * np.log2(config.bins)
        codes, decoded = reconstruct(subject.jukebox.vqvae, pieces, level)
        _, random = reconstruct(untrained, pieces, level)
        mu_law = {
            size: [of_sound.mu_law(piece, config.sample_rate, bits_per_second=bits, bits=size) for piece in pieces]
            for size in of_sound.MU_LAW_BITS
        }
        rows.append(
            {
                "level": level,
                "bits_a_second": round(bits),
                "codebook_use": of_codes.codebook_usage(codes, config.bins),
                **_distances("", pieces, decoded),
                **_distances("untrained_", pieces, random),
                # The best sample size, for each metric separately.
                **_best([_distances("mu_law_", pieces, each) for each in mu_law.values()]),
            }
        )
        if pictures is not None:
            pairs = list(zip(pieces[:DRAWN], decoded[:DRAWN], strict=True))
            comparison_png(pairs, config.sample_rate, pictures / f"reconstruction_{level}.png")
    return rows


def reconstruct(
    vqvae: VQVAE, pieces: Sequence[NDArray[np.float32]], level: int
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """Returns codes and decoded audio of every piece."""
    codes = [vqvae.encode(torch.from_numpy(piece)[None], [level])[0] for piece in pieces]
    decoded = [vqvae.decode(each, level)[0].float().numpy() for each in codes]
    return [each[0].numpy() for each in codes], decoded


def _distances(
    prefix: str, pieces: Sequence[NDArray[np.float32]], decoded: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    pairs = list(zip(pieces, decoded, strict=True))
    return {
        f"{prefix}si_sdr": float(np.mean([of_sound.si_sdr(*pair) for pair in pairs])),
        f"{prefix}spectral": float(np.mean([of_sound.spectral_distance(*pair) for pair in pairs])),
    }


def _best(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: (max if name.endswith("si_sdr") else min)(row[name] for row in rows) for name in rows[0]}
