"""Features of folders of recordings, in this process and without Prefect: resumed, complete, and never lost."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jukebox_core as jukebox
from jukebox_core.audio.files import read_audio, write_audio
from jukebox_core.errors import AudioError, ConfigError, LabelError
from jukebox_core.features.folder import FeatureFolder
from pipelines.execution import features
from pipelines.flows.features import extract_recordings
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import FEATURES, compose
from stages import stopping
from stages.stopping import StoppedError
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jukebox_core.features.folder import FeatureSet
    from pipelines.settings.features import FeaturesSettings

RATE, CLIPS = 44100, 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("own"), scale=8.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, noise = tmp_path_factory.mktemp("clips"), np.random.default_rng(1)
    (folder / "deep").mkdir()
    for number in range(CLIPS):
        audio = 0.1 * noise.standard_normal(2000 + 900 * number).astype(np.float32)
        write_audio(folder / ("deep" if number % 2 else "") / f"{number}.wav", audio, RATE)
    return folder


@pytest.fixture
def music(clips: Path, tmp_path: Path) -> Path:
    shutil.copytree(clips, tmp_path / "music")
    return tmp_path / "music"


@pytest.fixture
def settings(model: Path, music: Path, tmp_path: Path) -> Callable[..., FeaturesSettings]:
    def make(*overrides: str) -> FeaturesSettings:
        return compose(
            FEATURES,
            [
                f"model={model}",
                f"audio=[{music}]",
                f"storage.root={tmp_path}/out",
                f"weights.folder={tmp_path}/weights",
                "hardware.dtype=float32",
                "hardware.device=cpu",
                "group=3",
                *overrides,
            ],
        )

    return make


def take(settings: FeaturesSettings) -> FeatureSet:
    extract_recordings(features.prepare(settings), PLAIN)
    return jukebox.load_features(settings.path)


def times(settings: FeaturesSettings) -> dict[str, int]:
    folder = settings.path / "arrays"
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


def test_a_folder_gives_what_the_python_interface_gives(
    settings: Callable[..., FeaturesSettings], model: Path, music: Path, tmp_path: Path
) -> None:
    found = take(settings("features.layers=[1,3]", "features.codes=[-1]"))
    assert len(found) == CLIPS
    assert found.names == sorted(path.relative_to(music).as_posix() for path in music.rglob("*.wav"))
    assert found[3].shape == (CLIPS, 32)
    hardware = jukebox.HardwareConfig(device="cpu", dtype="float32")
    direct = jukebox.load_model(model, hardware=hardware, folder=tmp_path / "weights")
    for name in found.names:
        expected = direct.features(read_audio(music / name, rate=RATE), layers=(1, 3), codes=(-1,))
        for array, values in found.of(name).items():
            np.testing.assert_allclose(values, expected[array], atol=1e-5)
    about = found.about
    assert (about["status"], about["layers"], about["recipe"]["name"]) == ("finished", [1, 3], "default")
    assert set(about["weights"]) == {"vqvae", "level_2"}


def test_a_second_run_computes_nothing(settings: Callable[..., FeaturesSettings]) -> None:
    made = settings()
    take(made)
    before = times(made)
    prepared = features.prepare(made)
    assert features.unfinished(prepared) == []
    assert features.is_finished(prepared)
    take(made)
    assert times(made) == before


def test_a_stopped_run_keeps_what_is_finished(
    settings: Callable[..., FeaturesSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, write = settings(), FeatureFolder.write
    written: list[str] = []

    def stopping_after_four(self: FeatureFolder, entry: Any, arrays: Any) -> Any:
        written.append(entry.name)
        if len(written) == 4:
            stopping.request_stop()
        return write(self, entry, arrays)

    monkeypatch.setattr(FeatureFolder, "write", stopping_after_four)
    with pytest.raises(StoppedError):
        take(made)
    stopping.clear_request()
    first = times(made)
    assert 4 <= len(first) < CLIPS
    assert jukebox.load_features(made.path).about["status"] == "running"
    take(made)
    assert len(written) == len(set(written)) == CLIPS, "a recording was computed twice"
    assert {path: time for path, time in times(made).items() if path in first} == first


def test_only_a_recording_that_changed_is_computed_again(
    settings: Callable[..., FeaturesSettings], music: Path
) -> None:
    made = settings()
    take(made)
    before = times(made)
    (music / "2.wav").touch()  # the same sound
    shutil.copyfile(music / "deep/9.wav", music / "0.wav")
    (made.path / "arrays/4.wav.layer1.npy").unlink()
    found = take(made)
    changed = {path for path, time in times(made).items() if before.get(path) != time}
    [edited, lost] = sorted(re.sub(r".*/arrays/", "", path) for path in changed)
    assert re.fullmatch(r"0\.wav\.layer1\.[0-9a-f]{8}\.npy", edited), "the arrays of the recording before stay"
    assert lost == "4.wav.layer1.npy"
    np.testing.assert_array_equal(found.of("0.wav")["layer1"], found.of("deep/9.wav")["layer1"])
    assert features.unfinished(features.prepare(made)) == []


@pytest.mark.parametrize(
    "override", ["features.layers=[2]", "song.genre=folk", "offset_seconds=0.01", "hardware.dtype=bfloat16"]
)
def test_other_causes_are_another_folder(settings: Callable[..., FeaturesSettings], override: str) -> None:
    assert settings(override).path != settings().path
    folder = f"folder={settings().path}"
    prepared = features.prepare(settings(folder, override))
    take(settings(folder))
    assert len(features.unfinished(prepared) or []) == CLIPS


def test_a_bad_file_is_left_out_and_the_others_go_on(settings: Callable[..., FeaturesSettings], music: Path) -> None:
    (music / "bad.wav").write_text("no audio")
    write_audio(music / "short.wav", np.zeros(50, np.float32), RATE)
    made = settings()
    found = take(made)
    assert len(found) == CLIPS
    errors = {name: entry.error for name, entry in FeatureFolder(made.path).entries().items() if entry.error}
    assert set(errors) == {"bad.wav", "short.wav"}
    assert "is not audio that can be read" in str(errors["bad.wav"])
    assert "less than one code" in str(errors["short.wav"])
    shutil.copyfile(music / "0.wav", music / "bad.wav")  # mended
    assert len(take(made)) == CLIPS + 1


@pytest.mark.slow
def test_threads_give_the_same(settings: Callable[..., FeaturesSettings], tmp_path: Path, prefect_api: str) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from pipelines.flows.features import run_features_flow

    one, two = settings(), settings("runner.workers=2", f"folder={tmp_path}/two", "group=2")
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        run_features_flow(features.prepare(two), {})
    alone, together = take(one), jukebox.load_features(two.path)
    assert alone.names == together.names
    np.testing.assert_allclose(alone[1], together[1], atol=1e-6)


def test_a_table_names_labels_and_conditions_only_if_asked(
    settings: Callable[..., FeaturesSettings], music: Path
) -> None:
    (music / "t.csv").write_text("path,genre,split\n0.wav,folk,train\ndeep/1.wav,jazz,test\n")
    audio = f"audio=[{music}/t.csv]"
    plain, conditioned = take(settings(audio)), take(settings(audio, "use_labels=true"))
    assert (plain.names, plain.field("genre"), plain.field("split")) == (
        ["0.wav", "deep/1.wav"],
        ["folk", "jazz"],
        ["train", "test"],
    )
    assert np.abs(plain[1] - conditioned[1]).max() > 0.001
    (music / "t.csv").write_text("path,genre\n0.wav,polka\n")
    with pytest.raises(LabelError, match=r"0.wav: genre 'polka' is not among"):
        features.prepare(settings(audio, "use_labels=true"))


def no_weights(*_: object, **__: object) -> None:
    raise AssertionError("weights were read")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (
            ["features.layers=[9]"],
            ConfigError,
            r"features.layers names 9, but the network of level 2 has layers 1 to 3",
        ),
        (["features=jukemir"], ConfigError, r"features.layers names 36"),
        (["audio=[]"], ConfigError, "audio is empty"),
        (["audio=[{music}/empty]"], ConfigError, "empty holds no .wav"),
        (["audio=[{music}/none.wav]"], AudioError, "none.wav does not exist"),
        (["audio=[{music}/bad.wav]"], AudioError, "none of 1 recordings can be used; the first: .*not audio"),
        (["features.short=refuse", "audio=[{music}/0.wav]"], AudioError, "less than the full window of 32"),
        (["song.lyrics=la"], ConfigError, "song: lyrics are set, but the prior of level 2 of own knows none"),
        (["song.artist=nobody"], LabelError, "song: artist 'nobody' is not among"),
        (["features.rat=3"], ConfigError, "features.rat"),
        (["group=0"], ConfigError, "group is 0; it must be above 0"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_weights_are_read(
    settings: Callable[..., FeaturesSettings],
    music: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: Sequence[str],
    error: type[Exception],
    message: str,
) -> None:
    (music / "empty").mkdir()
    (music / "bad.wav").write_text("no audio")
    monkeypatch.setattr(features, "check_local_weights", no_weights)
    with pytest.raises(error, match=message):
        features.prepare(settings(*(each.format(music=music) for each in overrides)))
