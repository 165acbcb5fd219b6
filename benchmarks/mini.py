"""How good the embedded model is: its codes, its prior, its conditioning and what it makes, on songs it never heard.

The songs are composed anew, from a seed that no training uses. ``python -m benchmarks.mini --help``; the last line
printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.side_by_side import side_by_side
from jukebox_core.api import Jukebox, Song, load_model
from jukebox_core.audio.files import write_audio
from jukebox_core.composer.album import perform, plan_album
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.composer.styles import ARTISTS, GENRES
from jukebox_core.datasets.windows import read_index
from jukebox_core.evaluation import codes as of_codes
from jukebox_core.evaluation import sound as of_sound
from jukebox_core.families.jukebox.checkpoints.initialise import write_seeded
from jukebox_core.families.jukebox.checkpoints.loading import load_vqvae
from jukebox_core.families.jukebox.conditioning.labels import label_song, window_row
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.tokens.codes import read_codes
from pipelines.settings.compose import GENERATE, compose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from jukebox_core.composer.score import Score
    from jukebox_core.families.jukebox.conditioning.vocabulary import Vocabulary, VocabularyKind
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE

HELD_OUT_SEED = 271_828  # of an album that nothing is trained on
MEASURES = ("reconstruction", "prior", "conditioning", "generated")
STANDING_SECONDS = 0.25  # one code for so long is a loop of one token
TEMPO_TOLERANCE = 0.05

WEIGHTS = WeightsConfig(folder=os.environ.get("JUKEBOX_WEIGHTS", "~/.cache/jukebox"))

_PIECE_SECONDS = 4.0  # of each song, for the VQ-VAE
_DRAWN = 3  # songs that pictures are drawn of


@dataclass(frozen=True)
class HeldOut:
    """Songs that the model never heard: notes, and sound at its rate, float32 [time]."""

    scores: Sequence[Score]
    audio: Sequence[NDArray[np.float32]]

    @classmethod
    def compose(cls, songs: int, rate: int) -> HeldOut:
        """Returns an album of songs of the length that mini learnt from."""
        album = AlbumConfig(songs=songs, seconds=24.0, seed=HELD_OUT_SEED, sample_rate=rate)
        scores = [track.compose() for track in plan_album(album)]
        return cls(scores, [perform(score, album)[:, 0] for score in scores])


class Subject:
    """A model, and the held-out songs as it hears them."""

    def __init__(self, model: str, songs: int, threads: int) -> None:
        """Loads nothing yet."""
        self.model, self.threads = model, threads
        self.settings = load_preset(model)
        self.jukebox: Jukebox = load_model(model, hardware=HardwareConfig(device="cpu", threads=threads))
        self.config = self.settings.config
        self.held_out = HeldOut.compose(songs, self.config.vqvae.sample_rate)

    @property
    def digests(self) -> dict[str, str]:
        """The first digits of every weight file's sha256, by role."""
        files = obtain_weights(self.settings, WEIGHTS)
        return {role: file.sha256[:16] for role, file in files.items()}

    @cached_property
    def vocabularies(self) -> dict[VocabularyKind, Vocabulary]:
        """The model's names, by kind."""
        files = obtain_vocabularies(self.settings.files, WEIGHTS)
        return load_vocabularies({role: file.path for role, file in files.items()})

    @cached_property
    def top_codes(self) -> list[NDArray[np.int64]]:
        """The top level's codes of every song."""
        return self.codes(self.config.top)

    def codes(self, level: int) -> list[NDArray[np.int64]]:
        """Returns a level's codes of every song."""
        return [self.jukebox.encode(audio, [level])[level] for audio in self.held_out.audio]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints tables, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini", description=__doc__)
    parser.add_argument("--model", default="mini", help="a shipped model, or the path of one's yaml file or folder")
    parser.add_argument("--songs", type=int, default=48, help="held-out songs; 48 are every artist in every genre")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES, help="what to measure")
    parser.add_argument("--samples", type=int, default=8, help="songs to generate")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of what is generated")
    parser.add_argument("--codes", type=Path, help="folder of codes it was trained on, to count pairs of codes in")
    parser.add_argument("--pictures", type=Path, help="folder for spectrograms, real and generated side by side")
    parser.add_argument("--audio", type=Path, help="folder for what is generated")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args(arguments)
    subject = Subject(asked.model, asked.songs, asked.threads)
    result: dict[str, Any] = {"songs": asked.songs, "weights": subject.digests}
    measures: dict[str, Callable[[], dict[str, Any] | list[dict[str, Any]]]] = {
        "reconstruction": lambda: reconstruction(subject, asked.pictures),
        "prior": lambda: prior(subject, asked.codes),
        "conditioning": lambda: conditioning(subject),
        "generated": lambda: generated(subject, asked),
    }
    for name in asked.measures:
        began = time.perf_counter()
        with torch.inference_mode():
            result[name] = measures[name]()
        print(f"\n{name} ({time.perf_counter() - began:.0f} s)\n{_lines(result[name])}", flush=True)
    print(json.dumps(result))


def reconstruction(subject: Subject, pictures: Path | None) -> list[dict[str, Any]]:
    """Returns how near decoded sound comes to the original, level by level, beside untrained codes and mu-law."""
    config = subject.config.vqvae
    length = int(_PIECE_SECONDS * config.sample_rate) // config.hops[-1] * config.hops[-1]
    pieces = [audio[:length] for audio in subject.held_out.audio]
    with tempfile.TemporaryDirectory() as folder:
        write_seeded(subject.config, "vqvae", 1, Path(folder) / "vqvae.safetensors")
        untrained = load_vqvae(subject.config, Path(folder) / "vqvae.safetensors")
    rows = []
    for level, hop in enumerate(config.hops):
        bits = config.sample_rate / hop * np.log2(config.bins)
        codes, heard = _through(subject.jukebox.vqvae, pieces, level)
        _, random = _through(untrained, pieces, level)
        pressed = {
            size: [of_sound.mu_law(piece, config.sample_rate, bits_a_second=bits, bits=size) for piece in pieces]
            for size in of_sound.MU_LAW_BITS
        }
        rows.append(
            {
                "level": level,
                "bits_a_second": round(bits),
                "codebook_use": of_codes.used_share(codes, config.bins),
                **_nearness("", pieces, heard),
                **_nearness("untrained_", pieces, random),
                # The best size of a sample for each figure by itself.
                **_best([_nearness("mu_law_", pieces, each) for each in pressed.values()]),
            }
        )
        if pictures is not None:
            pairs = list(zip(pieces[:_DRAWN], heard[:_DRAWN], strict=True))
            side_by_side(pairs, config.sample_rate, pictures / f"reconstruction_{level}.png")
    return rows


def prior(subject: Subject, trained_on: Path | None) -> dict[str, Any]:
    """Returns the top prior's bits a token on held-out songs, beside those of counting codes and pairs of codes."""
    bins, top = subject.config.vqvae.bins, subject.config.top
    model, music = subject.jukebox.prior(top), []
    for number, codes in enumerate(subject.top_codes):
        for start in window_starts(subject, len(codes)):
            music += _bits(model, codes, start, [label_row(subject, number, start)])
    seen = subject.top_codes
    result = {
        "bits": float(np.mean(music)),
        "windows": len(music),
        "unigram_entropy": of_codes.unigram_bits(seen, seen, bins),
        "bigram_entropy": of_codes.bigram_bits(seen, seen, bins),
    }
    if trained_on is not None:
        seen = [
            read_codes(trained_on / song.codes).levels[top].astype(np.int64) for song in read_index(trained_on).songs
        ]
        result["unigram_of_training"] = of_codes.unigram_bits(seen, subject.top_codes, bins)
        result["bigram_of_training"] = of_codes.bigram_bits(seen, subject.top_codes, bins)
    return result


def conditioning(subject: Subject) -> list[dict[str, Any]]:
    """Returns on what share of held-out windows the right artist, genre or lyrics cost fewer bits than wrong ones."""
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


def generated(subject: Subject, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what generated music is like, beside the held-out songs with the same artist, genre and lyrics."""
    rate = subject.config.vqvae.sample_rate
    scores = subject.held_out.scores[: asked.samples]
    songs = [
        Song(artist=score.artist, genre=score.genre, lyrics=score.lyrics, total_seconds=score.seconds)
        for score in scores
    ]
    how = compose(GENERATE, ["experiment=demo"]).sampling  # the temperatures that suit it
    music = subject.jukebox.generate(songs, seconds=asked.seconds, seed=1, sampling=how)
    length = music.audio.shape[1]
    real = [audio[:length] for audio in subject.held_out.audio[: asked.samples]]
    real_codes = [codes[: music.codes[subject.config.top].shape[1]] for codes in subject.top_codes]
    if asked.pictures is not None:
        side_by_side(list(zip(real, music.audio, strict=True))[:_DRAWN], rate, asked.pictures / "generated.png")
    if asked.audio is not None:
        for number, (audio, score) in enumerate(zip(music.audio, scores, strict=True)):
            write_audio(asked.audio / f"{number}-{score.artist.replace(' ', '-')}-{score.genre}.wav", audio, rate)
    return [
        {"of": "songs", **_character(subject, scores, real, real_codes)},
        {"of": "generated", **_character(subject, scores, list(music.audio), list(music.codes[subject.config.top]))},
    ]


def _character(
    subject: Subject,
    scores: Sequence[Score],
    audio: Sequence[NDArray[np.float32]],
    codes: Sequence[NDArray[np.int64]],
) -> dict[str, float]:
    config = subject.config.vqvae
    tempos = [of_sound.tempo(each, config.sample_rate) for each in audio]
    keys = [of_sound.key(each, config.sample_rate) for each in audio]
    standing = int(STANDING_SECONDS * config.sample_rate / config.hops[-1])
    return {
        "level_db": float(np.mean([of_sound.level_db(each) for each in audio])),
        "quietest_db": min(of_sound.level_db(each) for each in audio),
        "clipped_share": max(of_sound.clipped_share(each) for each in audio),
        "standing_share": float(np.mean([of_codes.standing_share(each, standing) for each in codes[: len(audio)]])),
        "tempo_median": float(np.median(tempos)),
        "tempo_of_genre": float(np.mean([_fits(t, s.genre) for t, s in zip(tempos, scores, strict=True)])),
        "key_fit": float(np.mean([each.fit for each in keys])),
        "minor_share": float(np.mean([each.minor for each in keys])),
    }


def _fits(tempo: float, genre: str) -> bool:
    """Whether a tempo is one of a genre's, its half or its double."""
    wanted = [beats * times for beats in GENRES[genre].tempos for times in (0.5, 1, 2)]
    return any(abs(tempo / each - 1) < TEMPO_TOLERANCE for each in wanted)


def _through(
    vqvae: VQVAE, pieces: Sequence[NDArray[np.float32]], level: int
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]]]:
    """Returns codes and decoded sound, piece by piece."""
    codes = [vqvae.encode(torch.from_numpy(piece)[None], [level])[0] for piece in pieces]
    heard = [vqvae.decode(each, level)[0].float().numpy() for each in codes]
    return [each[0].numpy() for each in codes], heard


def _nearness(
    prefix: str, pieces: Sequence[NDArray[np.float32]], heard: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    pairs = list(zip(pieces, heard, strict=True))
    return {
        f"{prefix}si_sdr": float(np.mean([of_sound.si_sdr(*pair) for pair in pairs])),
        f"{prefix}spectral": float(np.mean([of_sound.spectral_distance(*pair) for pair in pairs])),
    }


def _best(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: (max if name.endswith("si_sdr") else min)(row[name] for row in rows) for name in rows[0]}


def window_starts(subject: Subject, tokens: int, level: int | None = None) -> range:
    """Returns where whole windows of a level, by default the top, begin that lie side by side."""
    context = subject.config.priors[subject.config.top if level is None else level].context
    return range(0, tokens - context + 1, context)


def label_row(subject: Subject, number: int, start: int, level: int | None = None, **changed: str) -> tuple[int, ...]:
    """Returns the label row of a window of a held-out song, by default of the top level, some of it changed."""
    top = subject.config.top
    level = top if level is None else level
    config, score = subject.config.priors[level], subject.held_out.scores[number]
    total = len(subject.top_codes[number]) * subject.config.vqvae.hops[top]
    labels = label_song(
        subject.vocabularies,
        artist=changed.get("artist", score.artist),
        genre=changed.get("genre", score.genre),
        lyrics=changed.get("lyrics", score.lyrics),
        total_length=total,
        offset=0,
        config=config,
    )
    return window_row(labels, config, sample_length=subject.config.context_length(level), start=start).row


def _bits(model: Prior, codes: NDArray[np.int64], start: int, rows: Sequence[tuple[int, ...]]) -> list[float]:
    """Returns the music's bits a token in one window, under each of several label rows."""
    window_BT = torch.from_numpy(codes[start : start + model.config.context])[None]
    return [float(model.losses(window_BT, model.condition(torch.tensor([row]))).music) for row in rows]


def _lines(found: dict[str, Any] | list[dict[str, Any]]) -> str:
    rows = found if isinstance(found, list) else [found]
    return "\n".join(
        "  ".join(
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        )
        for row in rows
    )


if __name__ == "__main__":
    main()
