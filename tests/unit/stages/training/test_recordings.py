from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import yaml

from jukebox_core.audio.ffmpeg import ffmpeg_program
from jukebox_core.base.structuring import build
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.datasets.recordings import usable_recordings
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.errors import AudioError, StoreError
from jukebox_core.families.jukebox.training.config import TrainingConfig
from jukebox_core.models.presets import load_preset, option_data, option_path
from stages import stopping
from stages.stopping import StoppedError
from stages.training.dataset import check_training_songs
from stages.training.train import PartPlan, Trained, train_part
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from pathlib import Path

RATE = 44100
CHECKS = CheckConfig(shortest_seconds=0.5, most_unreadable=0.4)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Eight usable songs, one of them an mp3 file whose header promises more than it holds; and three that are not."""
    folder = tmp_path / "music"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", rng.uniform(-0.3, 0.3, 28_000 + number), RATE)
    for number in (6, 7):
        soundfile.write(folder / f"{number}.mp3", rng.uniform(-0.3, 0.3, RATE), RATE)
    data = bytearray((folder / "6.mp3").read_bytes())
    place = max(data.find(b"Xing"), data.find(b"Info"))
    data[place + 8 : place + 12] = (int.from_bytes(data[place + 8 : place + 12], "big") + 8).to_bytes(4, "big")
    (folder / "6.mp3").write_bytes(data)
    (folder / "page.mp3").write_text("<html>404</html>")
    soundfile.write(folder / "nan.wav", np.where(np.arange(RATE) == 900, np.nan, 0.1), RATE, subtype="FLOAT")
    soundfile.write(folder / "short.wav", rng.uniform(-0.3, 0.3, 99), RATE)
    return folder


def plan(tmp_path: Path, music: Path, record: Path, steps: int) -> PartPlan:
    own = yaml.safe_load(write_own_model(tmp_path / "own").read_text())
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    data: dict[str, Any] = option_data(option_path("mini", "training"), "training")
    data["vqvae"] |= {"seconds": 0.3, "measure_bandwidths": False}
    data["vqvae"]["loop"] |= {
        "max_steps": steps, "batch_size": 3, "logging_steps": 1, "save_steps": 1000, "eval_steps": 1000,
    }  # fmt: skip
    data["devices"]["accelerator"] = "cpu"
    return PartPlan(
        family="jukebox",
        role="vqvae",
        config=load_preset(tmp_path / "own.yaml").config,
        training=build(TrainingConfig, data),
        validation=0.0,
        audio=str(music),
        metadata=None,
        codes=str(tmp_path / "codes"),
        vocabularies={},
        codec=None,
        start=None,
        start_config=None,
        folder=str(tmp_path / "model"),
        recordings=str(record),
        most_unreadable=0.4,
    )


def train(tmp_path: Path, music: Path, steps: int = 6) -> Trained:
    record = tmp_path / "recordings.json"
    check_training_songs(CHECKS, scan_songs(music), RATE, record)
    return train_part(plan(tmp_path, music, record, steps))


@pytest.mark.slow
def test_a_codec_learns_from_the_usable_recordings_alone(
    tmp_path: Path, music: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if ffmpeg_program() is not None:
        (music / "cut.mp3").write_bytes((music / "7.mp3").read_bytes()[:9000])
    with caplog.at_level("INFO", logger="jukebox"):
        assert train(tmp_path, music).steps == 6
    lengths = usable_recordings(tmp_path / "recordings.json")
    assert set(lengths) - {"cut.mp3"} == {*(f"{number}.wav" for number in range(6)), "6.mp3", "7.mp3"}
    assert lengths["6.mp3"] < 1.1  # as heard; its header says 0.2 s more
    assert lengths.get("cut.mp3", 0.1) < 0.9
    assert "2 unreadable: nan.wav (the audio of" in caplog.text
    assert "is a web page" in caplog.text
    assert "1 short: short.wav" in caplog.text
    assert "is skipped" not in caplog.text


@pytest.mark.slow
def test_recordings_that_break_during_a_training_are_skipped_up_to_a_share(
    tmp_path: Path, music: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = tmp_path / "recordings.json"
    check_training_songs(CHECKS, scan_songs(music), RATE, record)
    (music / "0.wav").write_text("<html>gone</html>")
    soundfile.write(music / "1.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    assert train_part(plan(tmp_path, music, record, 6)).steps == 6
    assert caplog.text.count("is skipped, others are taken in its place") == 2
    for number in range(2, 6):
        (music / f"{number}.wav").write_bytes(b"RIFF")
    other = replace(plan(tmp_path, music, record, 6), folder=str(tmp_path / "other"))
    with pytest.raises(AudioError, match=r"4 of 8 songs can no longer be read, more than the allowed share of 0\.4"):
        train_part(other)


def test_music_that_cannot_be_used_is_refused_before_a_training(tmp_path: Path, music: Path) -> None:
    record, songs = tmp_path / "recordings.json", scan_songs(music)
    strict = replace(CHECKS, most_unreadable=0.1)
    with pytest.raises(AudioError, match=r"2 of 11 files .* cannot be read, more than the allowed share of 0\.1; the"):
        check_training_songs(strict, songs, RATE, record)
    with pytest.raises(
        AudioError, match=r"none of 11 files .* 9 short: .*; make checks.shortest_seconds .*smaller, or"
    ):
        check_training_songs(replace(CHECKS, shortest_seconds=60.0), songs, RATE, record)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"recordings.json cannot be written \(.*\); make room, or correct its rights"):
        check_training_songs(CHECKS, songs, RATE, tmp_path / "file" / "recordings.json")


def test_a_signal_ends_the_check_and_keeps_what_was_measured(tmp_path: Path, music: Path) -> None:
    record = tmp_path / "recordings.json"
    stopping.request_stop()
    try:
        with pytest.raises(StoppedError):
            check_training_songs(CHECKS, scan_songs(music), RATE, record)
    finally:
        stopping.clear_request()
    assert list(json.loads(record.read_text())["measured"]) == ["0.wav"]
