from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from jukebox_core.base.paths import conf_dir
from jukebox_core.composer.album import plan_album
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.composer.render import render
from jukebox_core.composer.score import TAIL_SECONDS, Score, compose
from jukebox_core.composer.styles import ARTISTS, GENRES
from jukebox_core.composer.tune import TUNE_ARTIST, TUNE_GENRE, TUNE_LYRICS
from jukebox_core.composer.words import write_line
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.errors import ConfigError, LabelError
from stages.training.album import write_album
from tests.helpers.damage import damage

RATE = 22050
NAMES = Path(conf_dir()).parent / "jukebox_core" / "data" / "mini"


def song(number: int, artist: str = "organ", genre: str = "folk", seconds: float = 16, sung: bool = True) -> Score:
    return compose(number, artist=artist, genre=genre, seconds=seconds, sung=sung)


def names_of(path: Path) -> set[str]:
    return {line.split(";")[0] for line in path.read_text().splitlines()} - {"unknown"}


def test_the_composer_and_the_embedded_model_know_the_same_names() -> None:
    assert names_of(NAMES / "artists.txt") == set(ARTISTS)
    assert names_of(NAMES / "genres.txt") == set(GENRES)


def test_the_tune_is_the_song_of_the_demo() -> None:
    demo = yaml.safe_load((conf_dir() / "song" / "lantern.yaml").read_text())
    assert (demo["artist"], demo["genre"], demo["lyrics"]) == (TUNE_ARTIST, TUNE_GENRE, TUNE_LYRICS)


@pytest.mark.parametrize("genre", GENRES)
def test_music_stays_in_key_and_voices_move_little(genre: str) -> None:
    for number in range(5):
        score = song(number, genre=genre, seconds=40, sung=False)
        style = GENRES[genre]
        if not style.seventh:
            assert {(note.pitch - score.tonic) % 12 for note in score.notes} <= set(style.scale)
        melody = [note.pitch for note in score.notes if note.part == "melody"]
        assert np.abs(np.diff(melody)).mean() < 4
        assert all(60 <= pitch <= 79 for pitch in melody)
        last = [note for note in score.notes if note.start >= score.seconds - style.beats * 60 / score.tempo - 1e-6]
        assert min(note.pitch for note in last) % 12 == score.tonic % 12


@pytest.mark.parametrize("genre", GENRES)
def test_every_character_has_its_time_and_every_letter_its_pitch(genre: str) -> None:
    score = song(1, genre=genre, seconds=30)
    slot = GENRES[genre].letter * 60 / score.tempo
    assert len(score.lyrics) == round(score.seconds / slot) + round(TAIL_SECONDS / slot)
    assert 0.22 < slot < 0.28
    for letter in score.letters:
        place = int(letter.start / slot + 0.4)  # a swung one is late
        assert score.lyrics[place] == letter.character
    classes = {(letter.character, letter.pitch % 12) for letter in score.letters}
    assert len(classes) == len({letter.character for letter in score.letters})
    assert not {note.part for note in score.notes} & {"melody"}


@pytest.mark.parametrize("letters", range(1, 40))
def test_lines_have_exactly_the_letters_asked_for(letters: int) -> None:
    for seed in range(30):
        line = write_line(np.random.default_rng(seed), letters)
        assert len(line) == letters
        assert line == " ".join(line.split())


def test_words_make_lines_that_differ() -> None:
    lines = {write_line(np.random.default_rng(seed), 31) for seed in range(200)}
    assert len(lines) > 195
    assert len({word for line in lines for word in line.split()}) > 60


def test_a_shorter_song_is_the_beginning_of_a_longer_one() -> None:
    short, long = (
        compose(3, artist="organ", genre="waltz", seconds=seconds, sung=False, ends=False) for seconds in (12, 60)
    )
    assert long.notes[: len(short.notes)] == short.notes
    assert long.hits[: len(short.hits)] == short.hits


@pytest.mark.parametrize("artist", ARTISTS)
def test_songs_have_one_level_never_clip_and_never_fall_silent(artist: str) -> None:
    for number, genre in enumerate(GENRES):
        score = song(number, artist, genre, seconds=10, sung=bool(number % 2))
        samples = render(score, RATE)
        assert samples.dtype == np.float32
        assert 20 * np.log10(np.sqrt((samples**2).mean())) == pytest.approx(-20, abs=0.3)
        assert 0.25 < np.abs(samples).max() < 0.99
        assert abs(samples.mean()) < 0.003
        ending = GENRES[genre].beats * 60 / score.tempo  # the last chord may die away
        seconds = samples[: int(score.seconds - ending) * RATE].reshape(-1, RATE)
        assert np.sqrt((seconds**2).mean(axis=1)).min() > 0.05


def test_rendering_is_deterministic_and_artists_differ() -> None:
    score = song(5)
    np.testing.assert_array_equal(render(score, 8000), render(score, 8000))
    spectra = []
    for artist in ARTISTS:
        power = np.abs(np.fft.rfft(render(replace(score, artist=artist), 8000)[:, 0])) ** 2
        spectra.append(np.log10(power[: len(power) // 40 * 40].reshape(40, -1).mean(axis=1)))
    apart = [np.abs(a - b).mean() for i, a in enumerate(spectra) for b in spectra[:i]]
    assert min(apart) > 0.03


def test_letters_have_distinct_spectra() -> None:
    """Sung alone, each letter's spectrum is nearer to itself elsewhere than to nearly all other letters."""
    from jukebox_core.composer.instruments import letter

    def spectrum(character: str, samples: int) -> np.ndarray:
        from jukebox_core.composer.score import letter_number

        sound = letter(character, 57 + letter_number(character) % 5 * 2, samples, RATE)[:samples]
        power = np.abs(np.fft.rfft(sound, 8192)) ** 2
        return np.log10(power[4:4084].reshape(-1, 12).mean(axis=1) + 1e-3)

    alphabet = "abcdefghijklmnopqrstuvwxyz"
    short, long = ({c: spectrum(c, samples) for c in alphabet} for samples in (5200, 6000))
    right = sum(min(alphabet, key=lambda other: float(np.abs(long[c] - short[other]).sum())) == c for c in alphabet)
    assert right >= 24


def test_stereo_has_two_sides_and_the_level_of_mono() -> None:
    score = song(2, "drums and bass", "dance", seconds=6)
    stereo = render(score, RATE, channels=2)
    assert stereo.shape[1] == 2
    assert not np.array_equal(stereo[:, 0], stereo[:, 1])
    assert np.sqrt((stereo**2).mean()) == pytest.approx(0.1, rel=0.03)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(LabelError, match=r"genre 'walz' .*closest: 'waltz'"):
        song(0, genre="walz")
    with pytest.raises(LabelError, match=r"artist 'orgen' .*closest: 'organ'"):
        render(song(0, artist="orgen"), RATE)
    with pytest.raises(ConfigError, match="closest: 'organ'"):
        AlbumConfig(songs=1, artists=("orgen",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"songs": 0}, "songs is 0; choose from 1"),
        ({"seconds": 1.0}, "seconds is 1.0"),
        ({"channels": 3}, "channels is 3"),
        ({"instrumental": 1.5}, "instrumental is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"folder": ""}, "folder is empty"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AlbumConfig(**{"songs": 1, **change})  # type: ignore[arg-type]


def test_an_album_uses_all_pairs_equally_and_can_grow() -> None:
    few, many = (plan_album(AlbumConfig(songs=songs, seed=3)) for songs in (48, 200))
    assert many[:48] == few
    assert len({(track.artist, track.genre) for track in few}) == 48
    assert len({track.seed for track in many}) == 200
    assert 0.1 < np.mean([not track.sung for track in many]) < 0.3


def test_an_album_is_written_once_and_read_as_songs(tmp_path: Path) -> None:
    config = AlbumConfig(songs=2, seconds=4, sample_rate=8000, folder=str(tmp_path / "album"))
    folder = write_album(config)
    songs = scan_songs(folder)
    assert [song.artist for song in songs] == [track.artist for track in plan_album(config)]
    written = [song.path.stat().st_mtime_ns for song in songs]
    songs = scan_songs(write_album(replace(config, songs=3)))
    assert len(songs) == 3
    assert [song.path.stat().st_mtime_ns for song in songs[:2]] == written
    with pytest.raises(ConfigError, match="an album of other seed; choose another folder"):
        write_album(replace(config, seed=1))
    for kind in ("list", "text", "truncate", "nested", "binary"):
        shutil.copy(tmp_path / "album" / "album.json", tmp_path / "kept.json")
        damage(tmp_path / "album" / "album.json", kind, 9)
        with pytest.raises(ConfigError, match="choose another folder"):
            write_album(config)
        shutil.copy(tmp_path / "kept.json", tmp_path / "album" / "album.json")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_album(replace(config, folder=str(tmp_path / "other")))
