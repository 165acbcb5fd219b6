"""Features by the Python interface: batches, layers that are read, and requests that are refused before that."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import jukebox_core as jukebox
from jukebox_core.errors import AudioError, ConfigError, LabelError
from jukebox_core.families.jukebox.checkpoints import prepared
from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
from jukebox_core.families.jukebox.features.activations import layer_outputs
from jukebox_core.features.plan import plan_features
from jukebox_core.models.checkpoints import direct
from jukebox_core.models.checkpoints.prepared import prepared_files
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from pathlib import Path

RATE, CPU = 44100, torch.device("cpu")


@pytest.fixture(scope="module")
def own_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("own"), scale=8.0)


@pytest.fixture(scope="module")
def own(own_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> jukebox.Jukebox:
    hardware = jukebox.HardwareConfig(device="cpu", threads=1, batch_size=3)
    return jukebox.load_model(own_yaml, hardware=hardware, folder=tmp_path_factory.mktemp("weights"))


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(int(seconds * RATE)).astype(np.float32) * 0.1


def test_recordings_of_a_batch_do_not_change_each_other(own: jukebox.Jukebox) -> None:
    sounds = [sound(seconds, seed) for seed, seconds in enumerate((0.31, 0.05, 0.2, 0.31))]
    together = own.features(sounds, layers=(1, 3), final=True, codes=(0, -1))
    for each, audio in zip(together, sounds, strict=True):
        alone = own.features(audio, layers=(3, 1), final=True, codes=(0, -1))
        assert list(alone.arrays) == ["codes0", "codes2", "layer1", "layer3", "final"]
        for name, values in alone.arrays.items():
            np.testing.assert_allclose(each[name], values, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(alone["codes2"], own.encode(audio / np.abs(audio).max(), [2])[2])


def test_codes_give_what_their_audio_gives(own: jukebox.Jukebox) -> None:
    audio = sound(0.4)[: 137 * 128]  # whole codes: the length of a song is part of its timing
    codes = own.encode(audio)
    for level in (0, 1, 2):
        recipe = {"layers": (2,), "level": level, "normalise": False, "pooling": "none"}
        heard, read = own.features(audio, **recipe), own.features(from_codes=codes, **recipe)
        assert heard[2].shape == (len(codes[level]), 32)
        assert heard.rate == RATE / own.config.hops[level]
        np.testing.assert_allclose(heard[2], read[2], atol=1e-5)


def test_a_label_changes_the_activations(own: jukebox.Jukebox) -> None:
    plain, folk = (own.features(sound(0.1), song=jukebox.Song(genre=genre)) for genre in ("unknown", "folk"))
    assert np.abs(plain[1] - folk[1]).max() > 0.01


def test_only_the_layers_that_are_asked_for_are_read(
    own_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MIN_BYTES", 0)
    model, library = load_preset(own_yaml), tmp_path / "weights"
    file = obtain_weights(model, WeightsConfig(folder=str(library)))["level_2"]
    source = Source(file.path, file.identity, library)
    read: list[int] = []
    fill = direct._fill

    def noting(values: torch.Tensor, file: int, at: int, path: Path) -> None:
        read.append(values.nbytes)
        fill(values, file, at, path)

    monkeypatch.setattr(direct, "_fill", noting)
    for dtype in ("float32", "int8"):
        made = {
            deepest: sampling_prior(model.config, 2, source, device=CPU, dtype=dtype, engine="native", deepest=deepest)
            for deepest in (1, 2)
        }
        assert not prepared_files(library), "no copy is made of a part"
        for deepest, prior in made.items():
            assert len(prior.body.transformer.blocks) == deepest
            assert not any(tensor.is_meta for tensor in prior.state_dict().values())
        whole = sampling_prior(model.config, 2, source, device=CPU, dtype=dtype, engine="native")
        read.clear()
        part = sampling_prior(model.config, 2, source, device=CPU, dtype=dtype, engine="native", deepest=1)
        partly = sum(read)
        sampling_prior(model.config, 2, source, device=CPU, dtype=dtype, engine="native")
        deeper = [tensor.nbytes for name, tensor in whole.state_dict().items() if re.search(r"blocks\.[12]\.", name)]
        assert deeper
        assert partly == sum(read) - partly - sum(deeper) > 0
        codes = torch.arange(20)[None] % 32
        condition = whole.condition(torch.tensor([[44100, 0, 4096, 1, 2, -1, -1, -1, -1]]))
        (expected,) = layer_outputs(whole, codes, condition, [1])
        for prior in (part, made[1]):
            (found,) = layer_outputs(prior, codes, condition, [1])
            assert torch.equal(found.x_BTW, expected.x_BTW)
        for path in prepared_files(library):
            path.unlink()


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"layers": (4,)}, ConfigError, r"layers names 4, but the network of level 2 has layers 1 to 3"),
        ({"layers": 4}, ConfigError, r"layers names 4, but the network of level 2 has layers 1 to 3"),
        ({"codes": (3,)}, ConfigError, r"codes names level 3; choose among 0 to 2"),
        ({"level": 3}, ConfigError, r"level is 3; choose one of 0 to 2"),
        (
            {"layers": (1,), "timing": "fixed", "fixed_seconds": 62.0},
            ConfigError,
            r"fixed_seconds is 62, but this model",
        ),
        ({"recipe": "jukmir"}, ConfigError, r"closest: 'jukemir'"),
        ({"pool": "mean"}, ConfigError, r"features.pool is not a setting"),
    ],
    ids=str,
)
def test_what_the_model_lacks_is_refused_before_weights_are_read(
    own_yaml: Path, tmp_path: Path, asked: dict[str, object], error: type[Exception], message: str
) -> None:
    model = jukebox.load_model(own_yaml, hardware=jukebox.HardwareConfig(device="cpu"), folder=tmp_path / "none")
    with pytest.raises(error, match=message):
        model.features(sound(0.1), **asked)
    assert not (tmp_path / "none").exists()


def test_input_that_cannot_be_used_is_refused(own: jukebox.Jukebox) -> None:
    for audio, message in (
        (np.zeros((2, 100), np.float32), r"of shape \(2, 100\); give mono"),
        (np.zeros(100, np.float32), "less than one code of 128"),
        (np.full(1000, np.nan, np.float32), "values that are not finite"),
    ):
        with pytest.raises(AudioError, match=message):
            own.features(audio)
    for codes, message in (
        ({2: [1, 99]}, "hold 1 to 99; this model's are 0 to 31"),
        ({2: [0.5]}, "give at least one whole number"),
        ({1: [1]}, "codes of level 2 are needed"),
    ):
        with pytest.raises(ConfigError, match=message):
            own.features(from_codes=codes)
    with pytest.raises(ConfigError, match="codes of level 2 are needed and not given"):
        own.features(from_codes={1: [1, 2]}, level=1)
    with pytest.raises(LabelError, match="artist 'nobody'"):
        own.features(sound(0.1), song=jukebox.Song(artist="nobody"))
    with pytest.raises(ConfigError, match="lyrics are set, but the prior of level 2 of own knows none"):
        own.features(sound(0.1), song=jukebox.Song(lyrics="la la"))


def test_a_family_without_features_is_named() -> None:
    model = SimpleNamespace(name="third", family="masks", opened=object(), config=None)
    with pytest.raises(ConfigError, match="model third is of the family masks, which gives no features"):
        plan_features(model, jukebox.FeatureConfig())  # type: ignore[arg-type]
