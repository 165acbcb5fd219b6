"""What is heard in generated songs, beside composed ones, the same through the codec, and what chance gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from benchmarks.comparison import comparison_png
from benchmarks.mini.reconstruction import reconstruct
from benchmarks.mini.subject import DRAWN
from jukebox_core import Song
from jukebox_core.audio.files import write_audio
from jukebox_core.composer.score import compose as compose_song
from jukebox_core.composer.styles import ARTISTS, GENRES
from jukebox_core.evaluation import rhythm
from jukebox_core.evaluation import sound as of_sound
from jukebox_core.evaluation.words import SungNote, words_fit
from pipelines.settings.compose import GENERATE, compose

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.mini.subject import Subject
    from jukebox_core.composer.score import Score

    Pieces = Sequence[NDArray[np.float32]]

SETTINGS = {  # overrides of `jukebox generate`
    "generated": (),  # at the model's usual temperatures
    "generated, all at 0.99": tuple(f"sampling.level_{level}.temperature=0.99" for level in range(3)),
}
DRONE = 0.5  # share of time in held tones above which a piece is one
_OTHER_WORDS = 3  # songs whose words each song's are compared with
_LISTENED, _OGG_LEVEL = 4, 0.8  # songs written to hear, and their compression: some 4 KB a second
_SEEDS = 64  # that are tried for a song of a given tempo


def music(
    subject: Subject, seconds: float, pictures: Path | None, audio: Path | None, ogg: Path | None = None
) -> list[dict[str, Any]]:
    """Returns a row of measures for composed songs, for the codec's levels, for generated songs, and for chance."""
    rate, top = subject.config.vqvae.sample_rate, subject.config.top
    scores = subject.held_out.scores
    made = {name: _generate(subject, seconds, overrides) for name, overrides in SETTINGS.items()}
    length = min(len(piece) for pieces in made.values() for piece in pieces)
    songs = [piece[:length] for piece in subject.held_out.audio]
    rows = [_row("composed", songs, scores, rate)]
    for level in (0, top):
        decoded = reconstruct(subject.jukebox.vqvae, [_padded(piece, subject) for piece in songs], level)[1]
        rows.append(_row(f"codec, level {level}", [piece[:length] for piece in decoded], scores, rate))
    rows += [_row(name, pieces, scores, rate) for name, pieces in made.items()]
    rng = np.random.default_rng(0)
    noise = [0.1 * rng.standard_normal(length).astype(np.float32) for _ in songs]
    order = _other_genres(scores)
    rows += [
        _row("chance: white noise", noise, scores, rate),
        _row("chance: songs of other genres", [songs[number] for number in order], scores, rate),
    ]
    for name, pieces in made.items():
        _show(name, songs, pieces, scores, rate, pictures=pictures, audio=audio)
    if ogg is not None:
        ogg.mkdir(parents=True, exist_ok=True)
        for piece, score in list(zip(made["generated"], scores, strict=True))[:_LISTENED]:
            path = ogg / f"{score.artist.replace(' ', '-')}-{score.genre}.ogg"
            soundfile.write(path, piece, rate, format="OGG", subtype="VORBIS", compression_level=_OGG_LEVEL)
    return rows


def _generate(subject: Subject, seconds: float, overrides: Sequence[str]) -> list[NDArray[np.float32]]:
    asked = [
        Song(artist=score.artist, genre=score.genre, lyrics=score.lyrics, total_seconds=score.seconds)
        for score in subject.held_out.scores
    ]
    sampling = compose(GENERATE, [f"model={subject.model}", *overrides]).sampling
    return list(subject.jukebox.generate(asked, seconds=seconds, seed=1, sampling=sampling).audio)


def _row(name: str, pieces: Pieces, scores: Sequence[Score], rate: int) -> dict[str, Any]:
    """Returns the measures of some pieces that claim the labels and words of `scores`."""
    tempos = [GENRES[score.genre].tempos for score in scores]
    held = [of_sound.held_share(piece, rate) for piece in pieces]
    treble = np.array([of_sound.treble_db(piece, rate) for piece in pieces])
    drums = np.array([bool(ARTISTS[s.artist].drums_level and GENRES[s.genre].drums) for s in scores])
    keys = [of_sound.key(piece, rate) for piece in pieces]
    found = [rhythm.tempo(piece, rate) for piece in pieces]
    strengths = [rhythm.beat_strength(piece, rate, each) for piece, each in zip(pieces, tempos, strict=True)]
    both = drums.any() and not drums.all()
    return {
        "of": name,
        "level_db": float(np.mean([of_sound.level_db(piece) for piece in pieces])),
        "clipped_share": max(of_sound.clipped_share(piece) for piece in pieces),
        "between_partials_db": float(np.mean([of_sound.between_partials_db(piece, rate) for piece in pieces])),
        "treble_db": float(treble.mean()),
        "drums_treble_db": float(treble[drums].mean() - treble[~drums].mean()) if both else None,
        "onsets_per_second": float(np.mean([len(rhythm.onsets(each, rate)) * rate / len(each) for each in pieces])),
        "beat_strength": float(np.mean(strengths)),
        "tempo_of_genre": float(np.mean([rhythm.tempo_is(*pair) for pair in zip(found, tempos, strict=True)])),
        "held_share": float(np.mean(held)),
        "drones": sum(share >= DRONE for share in held),
        "right_words": _right_words(pieces, scores, rate),
        "key_fit": float(np.mean([key.fit for key in keys])),
        "minor_share": float(np.mean([key.minor for key in keys])),
    }


def _right_words(pieces: Pieces, scores: Sequence[Score], rate: int) -> float | None:
    """Returns the share of comparisons in which a song's words fit its pitches better than another song's words."""
    sung = [number for number, score in enumerate(scores) if score.lyrics]
    better = []
    for place, number in enumerate(sung):
        genre = scores[number].genre
        right = _fit(pieces[number], rate, genre, scores[number].lyrics)
        others = {sung[(place + step) % len(sung)] for step in range(1, _OTHER_WORDS + 1)} - {number}
        better += [right > _fit(pieces[number], rate, genre, scores[other].lyrics) for other in others]
    return float(np.mean(better)) if better else None


def _fit(piece: NDArray[np.float32], rate: int, genre: str, words: str) -> float:
    """Returns how well words fit as the composer sings them in a genre, at the tempo that fits best."""
    seconds = len(piece) / rate + 2  # some bars more than are heard
    versions = {}
    for seed in range(_SEEDS):
        score = compose_song(seed, artist=next(iter(ARTISTS)), genre=genre, seconds=seconds, lyrics=words)
        versions.setdefault(score.tempo, score.letters)
        if len(versions) == len(set(GENRES[genre].tempos)):
            break
    return max(
        words_fit(piece, rate, [SungNote(each.start, each.start + each.length, each.pitch) for each in letters])
        for letters in versions.values()
    )


def _other_genres(scores: Sequence[Score]) -> list[int]:
    """Returns for every song the next one of another genre, or itself if there is none."""
    numbers = range(len(scores))
    return [
        next(
            (at for step in numbers if scores[at := (number + step) % len(scores)].genre != scores[number].genre),
            number,
        )
        for number in numbers
    ]


def _padded(piece: NDArray[np.float32], subject: Subject) -> NDArray[np.float32]:
    """Returns a piece with silence up to a whole number of top-level codes."""
    return np.pad(piece, (0, -len(piece) % subject.config.vqvae.hops[-1]))


def _show(
    name: str,
    songs: Pieces,
    made: Pieces,
    scores: Sequence[Score],
    rate: int,
    *,
    pictures: Path | None,
    audio: Path | None,
) -> None:
    """Writes spectrograms of songs beside generated ones, and the generated audio, where folders are given."""
    plain = name.replace(", ", "_")
    if pictures is not None:
        comparison_png(list(zip(songs, made, strict=True))[:DRAWN], rate, pictures / f"{plain}.png")
    if audio is not None:
        for number, (piece, score) in enumerate(zip(made, scores, strict=True)):
            title = f"{plain}-{number}-{score.artist.replace(' ', '-')}-{score.genre}"
            write_audio(audio / f"{title}.wav", piece, rate)
