"""Recordings with MIDI files: what is read, and what is left out before a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.datasets.checks import Checks
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.errors import ConfigError, NotesError
from jukebox_core.families.mt3.training.config import AugmentConfig, NoLabels
from jukebox_core.families.mt3.training.songs import RecordedSongs, midi_beside
from jukebox_core.family import open_family
from jukebox_core.models.presets import load_preset
from jukebox_core.notes.notes import Notes
from jukebox_core.training.family import TrainableFamily

if TYPE_CHECKING:
    from pathlib import Path

RATE = 8000
FAMILY = open_family("mt3").training()


def write_song(path: Path, notes: list[tuple[float, float, int]] | None, seed: int) -> None:
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 2 * RATE), RATE)
    if notes is not None:
        Notes.of(notes).to_midi(path.with_suffix(".mid"))


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    (folder / "takes").mkdir(parents=True)
    write_song(folder / "good.wav", [(0.1, 0.5, 60)], 0)
    write_song(folder / "takes" / "deep.wav", [(0.1, 0.5, 60)], 1)
    write_song(folder / "alone.wav", None, 2)
    write_song(folder / "late.wav", [(0.1, 0.5, 60), (9.0, 9.5, 60)], 3)
    write_song(folder / "empty.wav", [], 4)
    write_song(folder / "torn.wav", [(0.1, 0.5, 60)], 5)
    (folder / "torn.mid").write_bytes(b"MThd is no MIDI file")
    (folder / "good.mid").rename(folder / "good.midi")
    return folder


def test_the_family_fulfils_the_protocol() -> None:
    assert isinstance(FAMILY, TrainableFamily)
    assert FAMILY.parts(load_preset("mini_mt3").config) == ("transcriber",)


def test_songs_without_usable_notes_are_reported_and_left_out(music: Path) -> None:
    config = load_preset("mini_mt3").config
    checks = Checks(
        CheckConfig(shortest_seconds=1.0), RATE, lambda song, seconds: FAMILY.song_problem(config, song, seconds)
    )
    usable = [song.name for song in scan_songs(music) if checks.check(song) is not None]
    assert usable == ["good.wav", "takes/deep.wav"]
    found = {finding.name: finding.detail for finding in checks.findings if finding.problem == "unlabelled"}
    assert set(found) == {"alone.wav", "late.wav", "empty.wav", "torn.wav"}
    assert "has no MIDI file beside it; add alone.mid" in found["alone.wav"]
    assert "starts at 9.0 s, but the recording lasts 2.0 s" in found["late.wav"]
    assert found["empty.wav"] == "its MIDI file holds no notes"
    assert "torn.mid" in found["torn.wav"]
    assert any(line.startswith("4 unlabelled") for line in checks.summary())


def test_a_piece_is_a_part_of_its_recording(music: Path) -> None:
    good = [song for song in scan_songs(music) if song.name == "good.wav"]
    songs = RecordedSongs(good, {"good.wav": 2.0}, 0.1)
    piece = songs.piece(0, 0, start=1.5, seconds=1.0, rate=RATE)
    assert len(piece.audio_T) == pytest.approx(RATE / 2, abs=2)
    assert [note.pitch for note in piece.notes] == [60]


def test_a_recording_without_midi_names_the_file_to_add(tmp_path: Path) -> None:
    with pytest.raises(NotesError, match=r"song\.wav has no MIDI file beside it; add song\.mid"):
        midi_beside(tmp_path / "song.wav")


def test_a_model_of_several_channels_is_refused_by_name() -> None:
    config = load_preset("yourmt3").config
    with pytest.raises(ConfigError, match="yourmt3 writes 13 groups of instruments apart and is not trained here"):
        FAMILY.check(config, ("transcriber",), None, {}, ())


def test_settings_out_of_range_are_refused() -> None:
    for name, value in (("gain_db", -1.0), ("noise_db", -3.0), ("pitch_semitones", 13), ("mix_share", 1.5)):
        with pytest.raises(ConfigError, match=name):
            AugmentConfig(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="know no artists and genres"):
        NoLabels(artists={"mine": None})
