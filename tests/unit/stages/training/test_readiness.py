from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.structuring import build, to_plain
from jukebox_core.datasets.windows import CodesIndex, EncodedSong, write_index
from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.families.jukebox.config import JukeboxNetwork
from jukebox_core.families.jukebox.training.config import TrainingConfig
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import ModelSettings, load_preset, option_data, option_path
from jukebox_core.training.family import SongLength
from stages.fetch import fetch_vocabularies
from stages.handles import FileHandle
from stages.training import readiness
from stages.training.readiness import check_codes, check_training, encoded_lengths

if TYPE_CHECKING:
    from pathlib import Path

MINI = load_preset("mini")
TRAINING = build(TrainingConfig, option_data(option_path("mini", "training"), "training"))
SONGS = [SongLength(f"{number}.wav", 24.0) for number in range(20)]


@pytest.fixture(autouse=True)
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "free_memory", lambda _: 10**15)


def check(
    tmp_path: Path,
    parts: list[str],
    lengths: list[SongLength],
    validation: float = 0.3,
    *,
    model: ModelSettings = MINI,
    training: TrainingConfig = TRAINING,
) -> None:
    names = fetch_vocabularies(MINI, WeightsConfig(folder=str(tmp_path)))
    check_training(model, parts, training, names, lengths, validation)


def test_songs_and_memory_of_each_part_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="jukebox"):
        check(tmp_path, ["level_2"], [*SONGS, SongLength("short.wav", 1.0)])
    music, memory = (record.getMessage() for record in caplog.records)
    held = sum(readiness.split_of(song.name, 0.3) == "validation" for song in SONGS)
    assert f"level_2: {20 - held} songs to learn from and {held} held out are as long as a context of " in music
    assert music.endswith("; 1 are shorter and left out")
    assert memory.startswith("level_2: about ")
    assert f"gradients and a batch of {TRAINING.level_2.loop.batch_size} " in memory


def test_music_that_does_not_suffice_is_refused(tmp_path: Path) -> None:
    short = [SongLength("a.wav", 0.4), SongLength("b.wav", 2.25)]
    with pytest.raises(ConfigError, match=r"level_2: none of 2 songs .*the longest lasts 2.25 s; give longer music"):
        check(tmp_path, ["vqvae", "level_2"], short, 0.0)
    with pytest.raises(ConfigError, match=r"vqvae: none of 1 songs .* a clip of 0.5 s.*or make clips shorter"):
        check(tmp_path, ["vqvae"], short[:1], 0.0)
    with pytest.raises(ConfigError, match=r"level_2: long.wav \(300.0 s\): mini knows songs from 2 s to below 240 s"):
        check(tmp_path, ["level_2"], [*SONGS, SongLength("long.wav", 300.0)])


def test_memory_that_does_not_suffice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "free_memory", lambda _: 10_000_000)
    with pytest.raises(DeviceError, match=r"level_0: training takes about .* but cpu has 10.0 MB free; make "):
        check(tmp_path, ["level_0"], SONGS)


LYRICS = "model.network.priors.level_2.lyrics"


@pytest.mark.parametrize(
    ("transformer", "lyrics", "message"),
    [
        (
            {"depth": 32},
            {"alignment_layer": 14},
            f"{LYRICS}.alignment_layer is 14, but guided attention needs a layer that attends to lyrics alone, "
            "and layer 14 does not; choose 15, 31, or null for the last of these",
        ),
        (
            {"depth": 6},  # mini's own layer is 15
            {},
            f"{LYRICS}.alignment_layer is 15, but guided attention needs a layer that attends to lyrics alone, "
            "and none of this model does; set it to null",
        ),
        ({}, {"alignment_head": 2}, f"{LYRICS}.alignment_head is 2; choose from 0 to 1, or null for the first"),
    ],
)
def test_a_guided_head_that_does_not_attend_to_lyrics_is_refused(
    tmp_path: Path, transformer: dict[str, int], lyrics: dict[str, int], message: str
) -> None:
    data = to_plain(MINI.network)
    data["priors"]["level_2"]["transformer"] |= transformer
    data["priors"]["level_2"]["lyrics"] |= lyrics
    model = replace(MINI, network=build(JukeboxNetwork, data))
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, ["level_2"], SONGS, model=model)
    assert str(caught.value) == message
    unguided = replace(TRAINING, level_2=replace(TRAINING.level_2, guided_attention_weight=0.0))
    check(tmp_path, ["level_2"], SONGS, model=model, training=unguided)
    check(tmp_path, ["level_1"], SONGS, model=model)


def test_codes_of_another_model_are_refused(tmp_path: Path) -> None:
    song = EncodedSong(name="a.wav", codes="a.wav.npz", samples=44100, artist="unknown", genre="unknown", lyrics="")
    about = {"model": "mini", "vqvae_sha256": "0" * 64, "sample_rate": 22050, "hops": list(MINI.config.hops)}
    write_index(tmp_path, CodesIndex(about, [song]))
    assert encoded_lengths(tmp_path) == [SongLength("a.wav", 2.0)]
    file = tmp_path / "vqvae"
    file.touch()
    check_codes(MINI, FileHandle.of(file, "0" * 64), tmp_path)
    with pytest.raises(ConfigError, match=r"was encoded by mini, whose vqvae_sha256 is 000.*that of mini is 111"):
        check_codes(MINI, FileHandle.of(file, "1" * 64), tmp_path)
