"""Quality of an embedded model that varies recordings, on held-out songs.

Reconstruction by the codec, prediction of masked tokens, variations, and the notes of beats that are kept. The songs
are composed from a seed that no training set uses. ``python -m benchmarks.variations.held_out --help``; the last line
printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.mini.subject import HELD_OUT_SEED
from benchmarks.variations.beats import kept_beats
from jukebox_core import load_model
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.evaluation.codes import bigram_bits_per_token, unigram_bits_per_token
from jukebox_core.evaluation.sound import chroma_correlation, si_sdr, spectral_distance
from jukebox_core.families.vampnet.checkpoints.loading import load_transformer
from jukebox_core.families.vampnet.config import C2F, COARSE
from jukebox_core.families.vampnet.masks.config import MaskConfig
from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
from jukebox_core.families.vampnet.training.transformer_step import TransformerStep
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from jukebox_core.runtime.config import HardwareConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.vampnet.api import VampNet

GOALS = {"chroma": 0.8}
PERIOD = 7  # every how-manieth step of the source a variation keeps

_PIECE_SECONDS = 4.0  # of each song, as for mini
_VARIED = 12  # songs that are varied, at least
_HEARD_SECONDS = 8.0  # of each song, for predictions and counts
# Likely codes: others of a small model are noise.
COARSE_PASSES = PassConfig(steps=24, temperature=0.2, typical=False, mask_temperature=6.0)
C2F_PASSES = PassConfig(steps=1, temperature=0)
_RATIOS = 8  # masks of each window, from few to all tokens


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variations.held_out", description=__doc__)
    parser.add_argument(
        "--model", default="mini_vamp", help="a shipped model, or the path of one's yaml file or folder"
    )
    parser.add_argument("--songs", type=int, default=48, help="held-out songs; 48 are every artist in every genre")
    parser.add_argument("--seconds", type=float, default=24.0, help="mean length of the songs")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    result = run(options.model, options.songs, options.seconds, options.threads)
    print(table(result))
    print(json.dumps(result))


def run(model: str, songs: int, seconds: float, threads: int = 1) -> dict[str, Any]:
    """Returns the figures of a model."""
    hardware, began = HardwareConfig(device="cpu", threads=threads), time.process_time()
    vampnet: VampNet = load_model(model, hardware=hardware)
    files = obtain_weights(load_preset(model), WeightsConfig())
    album = AlbumConfig(songs=songs, seconds=seconds, seed=HELD_OUT_SEED, sample_rate=vampnet.config.sample_rate)
    tracks = plan_album(album)
    audio = [render_score(track.compose(), album)[:, 0] for track in tracks]
    codes = [vampnet.encode(each[: int(_HEARD_SECONDS * album.sample_rate)], rate=album.sample_rate) for each in audio]
    apart = max(1, songs // _VARIED)
    return {
        "benchmark": "held_out_variations",
        "model": model,
        "weights": {role: file.sha256[:16] for role, file in files.items()},
        "songs": songs,
        "reconstruction": reconstruction(vampnet, audio, hardware),
        "prediction": [prediction(vampnet, role, codes) for role in (COARSE, C2F)],
        "variation": variation(vampnet, audio[::apart]),
        "beats": kept_beats(vampnet, [*zip(tracks, audio, strict=True)][::apart], hardware, COARSE_PASSES, C2F_PASSES),
        "seconds": round(time.process_time() - began, 1),
    }


def reconstruction(
    vampnet: VampNet, audio: Sequence[NDArray[np.float32]], hardware: HardwareConfig
) -> list[dict[str, Any]]:
    """Returns bits a second and distances of decoded audio, of the model's codec and of mini's level 0, in turns."""
    mini, codec = load_model("mini", hardware=hardware), vampnet.config.network.codec
    rate = codec.sample_rate
    kinds: dict[str, tuple[float, Callable[[NDArray[np.float32]], NDArray[np.float32]]]] = {
        vampnet.config.name: (
            rate / codec.hop * codec.n_codebooks * np.log2(codec.codebook_size),
            lambda piece: vampnet.decode(vampnet.encode(piece, rate=rate)),
        ),
        "mini, level 0": (
            mini.config.sample_rate / mini.config.hops[0] * np.log2(mini.config.bins),
            lambda piece: mini.decode(mini.encode(piece, [0])[0], 0),
        ),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for each in audio:
        piece = each[: int(_PIECE_SECONDS * rate) // 256 * 256]
        for name, (_, through) in kinds.items():
            made = through(piece)[: len(piece)]
            # The level is the codec's own matter: compare at one level.
            level = float(made @ piece) / max(float(made @ made), 1e-12)
            found[name].append((si_sdr(piece, made), spectral_distance(piece, np.float32(level) * made)))
    return [
        {
            "codec": name,
            "bits_a_second": round(bits),
            "si_sdr": round(float(np.mean([pair[0] for pair in found[name]])), 3),
            "spectral": round(float(np.mean([pair[1] for pair in found[name]])), 3),
        }
        for name, (bits, _) in kinds.items()
    ]


@torch.inference_mode()
def prediction(vampnet: VampNet, role: str, codes: Sequence[NDArray[np.int64]]) -> dict[str, Any]:
    """Returns bits a masked token, over masks from few to all tokens, and those of counts of other songs."""
    files = obtain_weights(load_preset(vampnet.config.name), WeightsConfig(), roles=(role,))
    model = load_transformer(files[role].path, vampnet.codec)
    sizes, length = model.config, vampnet.config.network.chunk(role)
    step, found = TransformerStep(model, 0.0, 0).eval(), []
    for number, grid in enumerate(codes):
        window = torch.from_numpy(grid[None, :, :length]).expand(_RATIOS, -1, -1)
        found.append(float(step(window, torch.Generator().manual_seed(number))[1]["bits"]))
    counted: dict[str, list[float]] = {"unigram": [], "bigram": []}
    halves = (codes[::2], codes[1::2])
    for book in range(sizes.n_conditioning_codebooks, sizes.n_codebooks):
        for train, test in (halves, halves[::-1]):
            rows = [[grid[book] for grid in half] for half in (train, test)]
            counted["unigram"].append(unigram_bits_per_token(*rows, sizes.vocab_size))
            counted["bigram"].append(bigram_bits_per_token(*rows, sizes.vocab_size))
    return {
        "role": role,
        "bits": round(float(np.mean(found)), 3),
        **{name: round(float(np.mean(values)), 3) for name, values in counted.items()},
    }


def variation(vampnet: VampNet, audio: Sequence[NDArray[np.float32]]) -> dict[str, Any]:
    """Returns how near variations with every `PERIOD`-th step kept are to their sources as the codec plays them."""
    rate = vampnet.config.sample_rate
    mask = MaskConfig(period=PERIOD, upper_codebook_mask=vampnet.config.network.coarse.n_codebooks)
    chroma, changed, distance, parts = [], [], [], []
    for number, each in enumerate(audio):
        piece = each[: int(_PIECE_SECONDS * rate)]
        codes = vampnet.encode(piece, rate=rate)
        made = vampnet.vamp(
            codes=codes, mask=mask, sampling=VampSampling(seed=number, coarse=COARSE_PASSES, c2f=C2F_PASSES)
        )
        source, varied = vampnet.decode(codes), made.audio[0]
        generated = vampnet.mask(codes, mask, seed=number)
        kept = made.codes[0][0][~generated] == codes[~generated]
        assert kept.all(), "kept tokens changed"
        chroma.append(chroma_correlation(source, varied, rate))
        changed.append(float((made.codes[0][0] != codes)[generated].mean()))
        distance.append(si_sdr(source, varied))
        parts.append(float(generated.mean()))
    return {
        "songs": len(audio),
        "period": PERIOD,
        "generated": round(float(np.mean(parts)), 3),
        "changed": round(float(np.mean(changed)), 3),
        "chroma": round(float(np.mean(chroma)), 3),
        "chroma_lowest": round(float(np.min(chroma)), 3),
        "si_sdr": round(float(np.mean(distance)), 2),
    }


def table(result: dict[str, Any]) -> str:
    """Returns the figures as lines of text."""
    lines = [f"{'codec':<16}{'bits a second':>16}{'SI-SDR, dB':>12}{'spectral, dB':>14}"]
    lines += [
        f"{row['codec']:<16}{row['bits_a_second']:>16,}{row['si_sdr']:>12.1f}{row['spectral']:>14.1f}"
        for row in result["reconstruction"]
    ]
    lines += ["", f"{'bits a masked token':<22}{'model':>8}{'bigrams':>10}{'unigrams':>10}"]
    lines += [
        f"{row['role']:<22}{row['bits']:>8.2f}{row['bigram']:>10.2f}{row['unigram']:>10.2f}"
        for row in result["prediction"]
    ]
    found = result["variation"]
    lines += [
        "",
        f"variations, every {found['period']}th step kept: {found['generated']:.0%} of the tokens generated, "
        f"{found['changed']:.0%} of these changed; chroma {found['chroma']:.2f} (goal {GOALS['chroma']}), "
        f"SI-SDR {found['si_sdr']:.1f} dB",
    ]
    beats = result["beats"]
    lines.append(
        f"a beat of each bar kept: {beats['kept']:.0%} of the {beats['notes_kept']} notes in kept beats are "
        f"transcribed alike, {beats['generated']:.0%} of the {beats['notes_generated']} others"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
