"""Variations from Python: recordings in, music out; wrong input is one error before any network is loaded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from jukebox_core.api.model import load_model
from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.families.vampnet.masks.config import MaskConfig
from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
from jukebox_core.models.presets import load_preset
from tests.helpers.models import vampnet as gold
from tests.helpers.pages import blocks

if TYPE_CHECKING:
    from pathlib import Path

QUICK = VampSampling(coarse=PassConfig(steps=3), n_samples=2, seed=7)


@pytest.fixture(scope="module")
def model(golden_vampnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("vampnet")
    return load_model(gold.write_preset(golden_vampnet, folder), folder=folder / "weights")


@pytest.fixture(scope="module")
def recording(golden_vampnet: Path) -> tuple[np.ndarray, int]:
    path = golden_vampnet / "pipeline" / gold.load(golden_vampnet / "pipeline/pipeline.json")["input"]["file"]
    samples, rate = soundfile.read(path, dtype="float32")
    return samples, rate


def test_a_recording_becomes_the_codes_of_upstream(
    model: Any, recording: tuple[np.ndarray, int], golden_vampnet: Path
) -> None:
    samples, rate = recording
    codes = model.encode(samples, rate=rate)
    assert np.array_equal(codes, gold.tensors(golden_vampnet / "pipeline/io.npz")["codes"][0].numpy())
    heard = model.decode(codes)
    assert heard.shape == (codes.shape[1] * model.config.network.codec.hop,)
    assert model.decode(codes[None, :2]).shape == (1, len(heard))


def test_variations_keep_what_the_mask_keeps(model: Any, recording: tuple[np.ndarray, int]) -> None:
    samples, rate = recording
    codes = model.encode(samples, rate=rate)
    mask = model.mask(codes, MaskConfig(period=5, upper_codebook_mask=4), seed=1)
    music = model.vamp(codes=codes, mask=mask, sampling=QUICK)
    assert music.sample_rate == model.config.sample_rate
    assert music.codes[0].shape == (2, *codes.shape)
    assert (music.codes[0] == codes)[:, ~mask].all()
    assert not np.array_equal(music.codes[0][0], music.codes[0][1])
    assert np.array_equal(music.codes[1], music.codes[0][:, : music.codes[1].shape[1]])
    assert np.isfinite(music.audio).all()
    again = model.vamp(samples, mask, rate=rate, sampling=QUICK)
    assert np.array_equal(again.codes[0], music.codes[0])
    alone = model.vamp(codes=codes, mask=mask, sampling=dataclasses.replace(QUICK, n_samples=1))
    assert np.array_equal(alone.codes[0][0], music.codes[0][0])


def test_inpainting_changes_a_span_of_seconds_alone(model: Any, recording: tuple[np.ndarray, int]) -> None:
    codes = model.encode(recording[0], rate=recording[1])
    mask = model.inpaint_mask(codes, 0.2, 0.4)
    [made] = model.vamp(codes=codes, mask=mask, sampling=dataclasses.replace(QUICK, n_samples=1)).codes[0]
    inside = mask[0]
    assert mask.all(0).sum() == inside.sum() == 12
    assert np.array_equal(made[:, ~inside], codes[:, ~inside])
    assert not np.array_equal(made[:, inside], codes[:, inside])


def test_music_is_slowed_down(model: Any, recording: tuple[np.ndarray, int]) -> None:
    codes = model.encode(recording[0], rate=recording[1])[:, :8]
    mask = np.zeros(codes.shape, np.bool_)
    [made] = model.vamp(codes=codes, mask=mask, stretch=2, sampling=dataclasses.replace(QUICK, n_samples=1)).codes[0]
    assert made.shape == (codes.shape[0], 16)
    assert np.array_equal(made[:, ::2], codes)


def test_all_kept_is_the_recording_and_all_masked_is_not(model: Any, recording: tuple[np.ndarray, int]) -> None:
    codes = model.encode(recording[0], rate=recording[1])
    for masked in (False, True):
        mask = np.full(codes.shape, masked)
        [made] = model.vamp(codes=codes, mask=mask, sampling=dataclasses.replace(QUICK, n_samples=1)).codes[0]
        assert np.array_equal(made, codes) is not masked


def test_silence_is_varied(model: Any) -> None:
    music = model.vamp(np.zeros(8000, np.float32), MaskConfig(), sampling=QUICK)
    assert np.isfinite(music.audio).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda m, c: m.vamp(codes=c, mask=np.ones((7, c.shape[1] + 1), bool)),
            ConfigError,
            "make it of the same shape",
        ),
        (lambda m, c: m.vamp(codes=c, mask=np.ones((3, c.shape[1]), bool)), ConfigError, "make it of the same shape"),
        (lambda m, c: m.vamp(), ConfigError, "give either audio or codes"),
        (lambda m, c: m.vamp(codes=c[:3]), ConfigError, r"codes have shape \(3, "),
        (lambda m, c: m.vamp(codes=c + 99), ConfigError, "codes are from"),
        (lambda m, c: m.vamp(codes=c / 2), ConfigError, "codes are float64"),
        (lambda m, c: m.vamp(codes=c, mask=np.ones(c.shape, bool), stretch=0), ConfigError, "stretch factor is 0"),
        (lambda m, c: m.vamp(np.zeros(300)), AudioError, "lasts 6.8 ms; give at least 10 ms"),
        (lambda m, c: m.vamp(np.full(9000, np.nan)), AudioError, "not finite"),
        (lambda m, c: m.vamp(np.zeros(9000), rate=0), AudioError, "rate is 0"),
        (lambda m, c: m.vamp("missing.wav"), AudioError, "does not exist"),
        (lambda m, c: m.inpaint_mask(c, 0.3, 0.2), ConfigError, "must rise within 0 to"),
        (lambda m, c: m.inpaint_mask(c, 0.0, 9e9), ConfigError, "must rise within 0 to"),
        (lambda m, c: MaskConfig(period=-1), ConfigError, "period is -1; it cannot be negative"),
        (lambda m, c: MaskConfig(random=1.5), ConfigError, "random is 1.5; it must be within 0 to 1"),
        (lambda m, c: VampSampling(overlap=1.0), ConfigError, "overlap is 1.0"),
        (lambda m, c: PassConfig(top_p=0.0), ConfigError, "top_p is 0.0"),
    ],
)
def test_wrong_input_is_one_clear_error(model: Any, call: Any, error: type[Exception], words: str) -> None:
    codes = np.zeros((7, 20), np.int64)
    with pytest.raises(error, match=words):
        call(model, codes)


def test_released_weights_need_an_acknowledgement(tmp_path: Path) -> None:
    assert load_preset("vampnet").files.terms
    with pytest.raises(ConfigError, match=r"CC BY-NC-SA 4\.0"):
        load_model("vampnet", folder=tmp_path).vamp(np.zeros(9000))


def test_the_program_of_the_page_works(
    golden_vampnet: Path, recording: tuple[np.ndarray, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, _ = [block.text for block in blocks("docs/vamp.md") if block.language == "python"]
    preset = gold.write_preset(golden_vampnet, tmp_path)
    soundfile.write(tmp_path / "song.wav", *recording)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUKEBOX_WEIGHTS", str(tmp_path / "weights"))
    assert '"vampnet"' in program
    exec(program.replace('"vampnet"', repr(str(preset))), {})
    for name in ("variation.wav", "inpainted.wav"):
        assert soundfile.read(tmp_path / name)[0].std() > 0
