"""Recordings as runs of variations: tokens, masks, files, what is found again, and one clear error for bad input."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from jukebox_core.api.model import load_model
from jukebox_core.errors import AudioError, ConfigError, JukeboxError
from jukebox_core.families.vampnet.masks.config import MaskConfig
from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.codes import read_codes
from pipelines.execution import preflight
from pipelines.execution.variation import run_settings
from pipelines.runs.folder import RunFolder, find_run
from pipelines.runs.removal import Contained
from pipelines.settings.compose import INPAINT, VAMP, compose
from tests.helpers.models import vampnet as gold
from tests.helpers.plain_flows import make_plainly

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.settings.generate import Settings

RATE = 44_100
SAMPLING = ["sampling.coarse.steps=3", "sampling.n_samples=2", "sampling.seed=7", "output.report=true"]


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    at = np.arange(int(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * (220 + 110 * seed) * at) * np.exp(-3 * (at % 0.25))).astype(np.float32)


@pytest.fixture(scope="module")
def place(golden_vampnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and two recordings."""
    folder = tmp_path_factory.mktemp("vamp")
    gold.write_preset(golden_vampnet, folder)
    (folder / "music").mkdir()
    for name, seconds in (("one", 0.45), ("two", 0.3)):
        soundfile.write(folder / f"music/{name}.wav", sound(seconds, len(name)), RATE, subtype="FLOAT")
    return folder


def overrides(place: Path, *given: str) -> list[str]:
    return [
        f"model={place}/golden.yaml", f"storage.root={place}/runs", f"weights.folder={place}/weights",
        "hardware.device=cpu", "hardware.threads=1", "runner.preview_seconds=null", "output.report=false", *given,
    ]  # fmt: skip


def settings(place: Path, *given: str, audio: str = "music/one.wav") -> Settings:
    return run_settings(compose(VAMP, overrides(place, f"audio=[{place}/{audio}]", *given)))


@pytest.fixture(scope="module")
def made(place: Path) -> RunFolder:
    return make_plainly(settings(place, *SAMPLING, audio="music"))


def codes_of(run: RunFolder, sample: int, level: int = 0) -> np.ndarray:
    return read_codes(run.path / f"codes/sample_{sample}.npz").levels[level]


@pytest.mark.slow
def test_the_run_has_the_tokens_that_the_model_makes_in_python(place: Path, made: RunFolder) -> None:
    model = load_model(place / "golden.yaml", folder=place / "weights")
    sampling = VampSampling(coarse=PassConfig(steps=3), n_samples=2, seed=7)
    for first, name in ((0, "one"), (2, "two")):
        expected = model.vamp(place / f"music/{name}.wav", sampling=sampling)
        for number in range(2):
            assert np.array_equal(codes_of(made, first + number), expected.codes[0][number])
            assert np.array_equal(codes_of(made, first + number, 1), expected.codes[1][number])
        heard, rate = soundfile.read(made.path / f"audio/level_0/sample_{first}.wav")
        assert rate == RATE
        assert len(heard) == expected.audio.shape[1]


@pytest.mark.slow
def test_the_run_is_complete_and_known_to_its_commands(place: Path, made: RunFolder) -> None:
    manifest = made.manifest()
    assert manifest["status"] == "finished"
    assert [each["sample"] for each in manifest["originals"]] == [0, 1, 2, 3]
    shown = {file["path"] for each in manifest["originals"] for file in each["files"]}
    assert len(shown) == 2 * 3 + 4 * 2, "both variations show one recording, and a mask and a result each"
    assert all((made.path / path).is_file() for path in shown)
    assert Contained.of(made.path).others == ()
    assert find_run(made.name, str(place / "runs")).path == made.path
    with Image.open(made.path / "pictures/grid_sample_0_mask.png") as mask:
        assert mask.width == 960


@pytest.mark.slow
def test_the_page_shows_before_and_after(made: RunFolder) -> None:
    page = (made.path / "report.html").read_text(encoding="utf-8")
    assert page.count("<h3>Before") == 4
    assert page.count("<h3>All codebooks") == 4
    assert "one.wav, variation 0: keeps 1 of 7 steps; generates codebooks from number 4 on" in page
    assert "share them under the same terms" not in page, "this model has other terms"
    assert "no lyrics" not in page


@pytest.mark.slow
def test_a_finished_run_is_found_again(place: Path, made: RunFolder) -> None:
    again = preflight.prepare(settings(place, *SAMPLING, audio="music"))
    found = preflight.finished(again)
    assert found is not None
    assert found.path == made.path
    (made.path / "pictures/grid_sample_0_mask.png").unlink()
    assert preflight.finished(again) is None
    make_plainly(settings(place, *SAMPLING, audio="music"))
    assert preflight.finished(again) is not None


@pytest.mark.slow
def test_a_run_is_resumed_without_its_recordings(place: Path, made: RunFolder) -> None:
    moved = shutil.move(place / "music/two.wav", place / "two.wav")
    try:
        given = settings_of(made)
        store = TokenStore(given.storage.tokens)
        last = made.takes()[2][0].spans[-1].key
        expected = codes_of(made, 2)
        store.remove(last)
        (made.path / "codes/sample_2.npz").unlink()
        make_plainly(given, resume=True)
        assert np.array_equal(codes_of(made, 2), expected)
    finally:
        shutil.move(moved, place / "music/two.wav")


def settings_of(run: RunFolder) -> Settings:
    from pipelines.runs.config_file import settings_in

    found = settings_in(run.path)
    assert found is not None
    return found


@pytest.mark.slow
def test_a_recording_has_the_same_variations_alone(place: Path, made: RunFolder) -> None:
    alone = make_plainly(settings(place, *SAMPLING[:3], audio="music/two.wav"))
    assert np.array_equal(codes_of(alone, 0), codes_of(made, 2))
    assert alone.takes() == made.takes()[2:], "the windows are shared"


@pytest.mark.slow
def test_songs_of_a_run_are_varied(place: Path, made: RunFolder) -> None:
    found = settings(place, audio=f"runs/{made.name}")
    assert [path.rpartition("/")[2] for path in found.prompt.files] == [f"sample_{n}.wav" for n in range(4)]


@pytest.mark.slow
def test_a_part_is_made_again(place: Path) -> None:
    found = compose(INPAINT, overrides(place, f"audio=[{place}/music/one.wav]", "start=0.1", "stop=0.25"))
    run = make_plainly(run_settings(found.as_vamp))
    before = load_model(place / "golden.yaml", folder=place / "weights").encode(place / "music/one.wav")
    [codes] = [codes_of(run, 0)]
    changed = np.flatnonzero((codes != before).any(0))
    hop = found.model.config.network.codec.hop
    assert 0.1 - hop / RATE <= changed.min() * hop / RATE
    assert changed.max() * hop / RATE < 0.25


@pytest.mark.slow
def test_music_is_slowed_down(place: Path) -> None:
    run = make_plainly(settings(place, "mask=none", "mask.stretch=2", "mask.random=0"))
    before = load_model(place / "golden.yaml", folder=place / "weights").encode(place / "music/one.wav")
    codes = codes_of(run, 0)
    assert codes.shape[1] == 2 * before.shape[1]
    assert np.array_equal(codes[:, ::2], before)


@pytest.mark.slow
def test_the_coarse_codebooks_alone(place: Path) -> None:
    run = make_plainly(settings(place, "sampling.stop_level=1", "sampling.feedback=2"))
    assert sorted(read_codes(run.path / "codes/sample_0.npz").levels) == [1]
    assert (run.path / "audio/level_1/sample_0.wav").is_file()


@pytest.mark.slow
def test_beats_and_a_drawn_mask_are_stored_with_the_run(place: Path) -> None:
    (place / "one.txt").write_text("0.1\t1\n0.2\t2\n0.3\t3\n")
    steps = 26
    drawn = np.zeros((7, steps), np.uint8)
    drawn[:, 10:] = 1
    np.save(place / "drawn.npy", drawn)
    model = compose(VAMP, overrides(place, f"audio=[{place}/music/one.wav]")).model
    hop = model.config.network.codec.hop
    assert -(-len(sound(0.45)) // hop) == steps
    found = settings(place, "mask=drawn", f"mask.file={place}/drawn.npy", f"mask.beats.source={place}/one.txt")
    assert found.song.mask.file is None
    assert found.song.mask.beats.times == (0.1, 0.2, 0.3)
    assert found.song.mask.beats.bars == (0.1,)
    (place / "drawn.npy").unlink()
    run = make_plainly(found)
    before = load_model(place / "golden.yaml", folder=place / "weights").encode(place / "music/one.wav")
    assert np.array_equal(codes_of(run, 0)[:, :10], before[:, :10])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (["audio=[missing.wav]"], AudioError, "missing.wav"),
        (["audio=[short.wav]"], AudioError, "gives 5.0 ms; a recording to be varied lasts at least 10 ms"),
        (["seconds=3"], AudioError, "it has no 3 s from 0 s on: lower seconds or offset_seconds"),
        (
            ["mask.beats.times=[0.2,9.0]"],
            ConfigError,
            "has a beat at 9 s, but the recording ends at 0.450 s",
        ),
        (["mask.ranges=[{start: 0.1, stop: 2.0}]"], ConfigError, "stop is 2 s, but the recording ends at 0.450 s"),
        (["mask.keep_codebooks=8"], ConfigError, "mask.keep_codebooks is 8, but golden has 7 codebooks; choose 0 to 7"),
        (["mask.upper_codebook_mask=9"], ConfigError, "mask.upper_codebook_mask is 9, but golden has 7 codebooks"),
        (["mask.file=absent.npy"], ConfigError, "absent.npy cannot be read"),
        (["mask.file=mask.wav"], ConfigError, "a drawn mask is a file .npy, .csv, .txt or an image"),
        (["mask.file=books.npy"], ConfigError, "has 3 rows, but the model 7 codebooks; give one row, or one for each"),
        (["mask.file=words.csv"], ConfigError, "holds no numbers 0 and 1"),
        (["mask.beats.source=absent.txt"], ConfigError, "absent.txt cannot be read"),
        (["mask.beats.source=words.csv"], ConfigError, "hold something else than times"),
        (["hardware.dtype=float16"], ConfigError, "models of the family vampnet sample in float32, bfloat16, int8"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_error_before_anything_is_loaded(
    place: Path, given: list[str], error: type[JukeboxError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    soundfile.write("short.wav", sound(0.005), RATE)
    np.save("books.npy", np.zeros((3, 26)))
    (place / "words.csv").write_text("a,b\n")
    (place / "mask.wav").write_bytes(b"")
    audio = [] if given[0].startswith("audio") else [f"audio=[{place}/music/one.wav]"]
    with pytest.raises(error) as caught:
        run_settings(compose(VAMP, overrides(place, *audio, *given)))
    assert words in str(caught.value)


@pytest.mark.parametrize("columns", [25, 27])
def test_a_drawn_mask_of_another_length_is_refused_before_anything_is_loaded(place: Path, columns: int) -> None:
    np.save(place / "other.npy", np.ones((7, columns)))
    with pytest.raises(ConfigError, match=f"the drawn mask has 7 x {columns} places, but the codes 7 codebooks x 26"):
        preflight.prepare(settings(place, "mask=drawn", f"mask.file={place}/other.npy"))


@pytest.mark.slow
def test_all_kept_is_the_recording_and_silence_is_varied(place: Path) -> None:
    kept = make_plainly(settings(place, "mask=none", "mask.random=0"))
    before = load_model(place / "golden.yaml", folder=place / "weights").encode(place / "music/one.wav")
    assert np.array_equal(codes_of(kept, 0), before)
    soundfile.write(place / "silence.wav", np.zeros(9000), RATE)
    silent = make_plainly(settings(place, "mask=none", audio="silence.wav"))
    heard, _ = soundfile.read(silent.path / "audio/level_0/sample_0.wav")
    assert np.isfinite(heard).all()


def test_masks_of_songs_are_the_models(place: Path) -> None:
    found: Any = settings(place, "mask.period=5", "mask.upper_codebook_mask=4", "sampling.seed=3")
    mask = found.family.song_mask(found, 0, 40)
    model = load_model(place / "golden.yaml", folder=place / "weights")
    wanted = dataclasses.replace(MaskConfig(), period=5, upper_codebook_mask=4)
    assert np.array_equal(mask, model.mask(np.zeros((7, 40), np.int64), wanted, seed=3))
