"""The spectrogram of MT3 against the golden vectors `frontend`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.families.mt3.config import FrontEndConfig
from jukebox_core.families.mt3.events.segments import frame_count, segment_count, start_seconds
from jukebox_core.families.mt3.model.front_end import FrontEnd, mel_matrix
from tests.helpers.models.mt3 import arrays, bundles, load

if TYPE_CHECKING:
    from pathlib import Path

LOUD, LOG_ATOL, SHARE = (
    1e-3,
    5e-3,
    1e-4,
)  # from the README of the golden vectors; logs of rounding noise are not compared
NORMALISED_ATOL = 1e-4  # the logarithm's tolerance is 5e-3 / 17 here; measured 5e-6


def config_of(data: dict[str, float], **options: object) -> FrontEndConfig:
    names = {"sample_rate": "sample_rate", "hop": "hop", "fft": "fft", "mels": "mels"}
    names |= {"lo_hz": "low_hz", "hi_hz": "high_hz", "segment_frames": "segment_frames"}
    return FrontEndConfig(**{ours: data[theirs] for theirs, ours in names.items()} | options)  # type: ignore[arg-type]


def spectrogram(config: FrontEndConfig, audio: np.ndarray) -> np.ndarray:
    return FrontEnd(config)(torch.from_numpy(audio)).numpy()


def assert_close(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    ours, theirs = np.exp(found.astype(np.float64)), np.exp(expected.astype(np.float64))
    loud = theirs > LOUD
    assert np.abs(found - expected)[loud].max(initial=0) <= LOG_ATOL, name
    assert np.abs(ours - theirs).max() <= SHARE * max(1, theirs.max()), name


def test_log_mels_of_both_kinds(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "frontend.json"):
        data, stored = load(folder / "frontend.json"), arrays(folder / "cases.npz")
        config, heard = config_of(data), 0
        for name, case in data["cases"].items():
            audio, frames = stored[f"{name}.audio"], stored[f"{name}.frame_index"]
            assert len(audio) == case["samples"]
            assert frame_count(len(audio), config.hop) == case["frames"]
            assert segment_count(len(audio), config) == case["segments"] == len(case["start_times_port"])
            starts = [
                start_seconds(at * config.segment_frames, config, 100, parity=True) for at in range(case["segments"])
            ]
            assert starts == case["start_times_port"]
            found = spectrogram(config, audio)
            assert_close(found[:, frames], stored[f"{name}.logmel"], name)
            for index, valid in enumerate(case["valid_frames_per_segment"]):
                assert not found[index, valid:].any(), name
            scaled = spectrogram(config_of(data, slopes="hz", normalise=True), audio)
            bins = stored[f"{name}.bins_hz"]
            expected = stored[f"{name}.hz_normalised"]
            loud = expected > (np.log(LOUD) + 12) / 17  # logs of rounding noise are those of a CPU
            difference = np.abs(scaled[:, frames][..., bins] - expected)[loud]
            assert difference.max(initial=0) <= NORMALISED_ATOL, name
            heard += int(loud.sum())
        assert heard > 100


def test_other_sizes(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "variants.json"):
        data, stored = load(folder / "frontend.json"), arrays(folder / "variants.npz")
        for name, case in load(folder / "variants.json").items():
            config = config_of(data, mels=case["mels"], segment_frames=case["segment_frames"])
            quantised = stored.get(f"{name}.audio_int16")
            audio = stored[f"{name}.audio"] if quantised is None else quantised.astype(np.float32) / 32768
            found = spectrogram(config, audio)
            assert len(found) == len(case["valid_frames"])
            assert_close(found[:, stored.get(f"{name}.frame_index", slice(None))], stored[f"{name}.logmel"], name)


def test_mel_filters(golden_mt3: Path) -> None:
    """The filters are close to TensorFlow's in float32, and to the formula in float64, by what rounding explains."""
    checked = 0
    for folder in bundles(golden_mt3, "mel_matrix.npz"):
        data, stored = load(folder / "frontend.json"), arrays(folder / "mel_matrix.npz")
        for name in {key.removesuffix(".row") for key in stored if key.endswith(".row")}:
            kind, mels = re.fullmatch(r"(\w+)_mel(\d+)", name).groups()  # type: ignore[union-attr]
            found = mel_matrix(config_of(data, mels=int(mels), slopes="hz" if kind == "hzslope" else "mel"))
            expected = np.zeros_like(found)
            expected[stored[f"{name}.row"], stored[f"{name}.col"]] = stored[f"{name}.val"]
            assert np.abs(found - expected).max() < 2e-4, name
            checked += 1
    assert checked


def test_a_recording_is_read_in_parts_of_segments(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "frontend.json"):
        stored = arrays(folder / "cases.npz")
        front_end = FrontEnd(config_of(load(folder / "frontend.json")))
        name = max((key for key in stored if key.endswith(".audio")), key=lambda key: len(stored[key]))
        audio = torch.from_numpy(stored[name])
        parts = [front_end(audio, index, 1) for index in range(segment_count(len(audio), front_end.config))]
        torch.testing.assert_close(torch.cat(parts), front_end(audio), rtol=0, atol=1e-6)
