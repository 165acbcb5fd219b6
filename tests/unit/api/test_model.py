"""The Python interface, on the embedded model."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jukebox_core as jukebox
from jukebox_core.composer.builtin import read_prompt_audio
from jukebox_core.errors import AudioError, ConfigError, DeviceError, DownloadError, LabelError, NumericsError
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.codes import read_codes
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.models.own_model import SECONDS, write_own_model
from tests.helpers.plain_flows import run_plainly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def own_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("own"), scale=8.0)


@pytest.fixture(scope="module")
def own(own_yaml: Path, folder: Path) -> jukebox.Jukebox:
    """A model whose labels matter."""
    hardware = jukebox.HardwareConfig(device="cpu", threads=1, batch_size=2)
    return jukebox.load_model(own_yaml, hardware=hardware, folder=folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> jukebox.Jukebox:
    hardware = jukebox.HardwareConfig(device="cpu", threads=1, batch_size=2)
    return jukebox.load_model("mini", hardware=hardware, folder=folder)


TOP = jukebox.SamplingConfig(stop_level=2)


def test_codes_have_a_level_each_and_the_shape_of_the_sound(model: jukebox.Jukebox) -> None:
    sound = 0.1 * np.sin(np.arange(2 * 3 * 4096, dtype=np.float32)).reshape(2, 3, 4096)
    codes = model.encode(sound)
    assert {level: each.shape for level, each in codes.items()} == {
        level: (2, 3, 4096 // hop) for level, hop in enumerate(model.config.hops)
    }
    assert all(each.dtype == np.int64 for each in codes.values())
    alone = model.encode(sound[1, 2], levels=[2, 0])
    assert list(alone) == [2, 0]
    assert all(np.array_equal(alone[level], codes[level][1, 2]) for level in alone)


def test_audio_has_the_shape_of_the_codes(model: jukebox.Jukebox) -> None:
    codes = np.arange(12, dtype=np.int32).reshape(3, 4)
    audio = model.decode(codes, level=2)
    assert (audio.shape, audio.dtype) == ((3, 4 * model.config.hops[2]), np.dtype(np.float32))
    assert np.array_equal(model.decode(codes.astype(np.int64), level=2), audio)
    assert model.decode(codes[0], level=0).shape == (4 * model.config.hops[0],)


def test_music_has_every_sampled_level_and_the_lowest_as_sound(own: jukebox.Jukebox) -> None:
    stopped = jukebox.SamplingConfig(stop_level=1, level_1=jukebox.LevelSampling(top_k=5))
    music = own.generate(seconds=SECONDS, sampling=stopped, n_samples=2)
    assert {level: codes.shape for level, codes in music.codes.items()} == {1: (2, 136), 2: (2, 34)}
    assert music.audio.shape == (2, 34 * 128)
    assert np.array_equal(music.audio, own.decode(music.codes[1], level=1))


def test_the_seed_and_the_sample_choose_the_song(model: jukebox.Jukebox) -> None:
    def codes(**how: object) -> np.ndarray:
        return model.generate(seconds=0.1, **({"sampling": TOP} | how)).codes[2]  # type: ignore[arg-type]

    both = codes(n_samples=2, seed=7)
    assert np.array_equal(codes(sampling=jukebox.SamplingConfig(stop_level=2, seed=7, n_samples=2)), both)
    assert np.array_equal(codes(seed=7), both[:1])
    assert not np.array_equal(both[0], both[1])
    assert not np.array_equal(codes(seed=8), both[:1])


def test_each_sample_can_have_a_song_of_its_own(own: jukebox.Jukebox) -> None:
    plain, waltz = jukebox.Song(), jukebox.Song(artist="organ trio", genre="slow waltz")
    mixed, same = (own.generate(songs, seconds=SECONDS, seed=3).codes for songs in ([plain, waltz], [plain, plain]))
    assert all(np.array_equal(mixed[level][0], same[level][0]) for level in range(3))
    assert not any(np.array_equal(mixed[level][1], same[level][1]) for level in range(3))


def test_music_begins_with_the_codes_that_it_is_given(model: jukebox.Jukebox) -> None:
    start = {2: np.arange(5)}
    music = model.generate(seconds=0.1, n_samples=2, sampling=TOP, start=start)
    assert np.array_equal(music.codes[2][:, :5], [range(5)] * 2)
    whole = model.generate(seconds=0.1, n_samples=2, sampling=TOP, start=music.codes)
    assert np.array_equal(whole.codes[2], music.codes[2])


def test_nothing_is_sealed_of_logits_that_are_not_finite(
    own_yaml: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = jukebox.load_model(own_yaml, hardware=jukebox.HardwareConfig(device="cpu", threads=1), folder=folder)
    model._open_network("level_1").prior.output.weight.fill_(float("nan"))
    opened, sealed = model._open_network, list[int]()
    broken = opened("level_1")
    monkeypatch.setattr(model, "_open_network", lambda role: broken if role == "level_1" else opened(role))
    seal = TokenStore.seal

    def noting(store: TokenStore, key: str, tokens: np.ndarray, **how: Any) -> Any:
        sealed.append(len(tokens))
        return seal(store, key, tokens, **how)

    monkeypatch.setattr(TokenStore, "seal", noting)
    with pytest.raises(NumericsError, match="the logits of level 1 are not finite"):
        model.generate(seconds=SECONDS)
    assert sum(sealed) == 34  # the top level, and no token of level 1


def test_a_song_without_a_length_has_the_usual_one(model: jukebox.Jukebox) -> None:
    def codes(song: jukebox.Song | None) -> np.ndarray:
        return model.generate(song, seconds=0.1, sampling=TOP).codes[2]

    assert np.array_equal(codes(None), codes(jukebox.Song(total_seconds=30.0)))
    assert not np.array_equal(codes(None), codes(jukebox.Song(total_seconds=2.0)))


@pytest.mark.slow  # imports Prefect
@pytest.mark.parametrize("prompt", [None, 0.04])
def test_the_command_line_gives_the_same_tokens(
    own: jukebox.Jukebox,
    own_yaml: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prompt: float | None,
) -> None:
    settings = compose(
        GENERATE,
        [
            *(f"model={own_yaml}", f"seconds={SECONDS}", f"weights.folder={folder}", f"storage.root={tmp_path}"),
            *(
                "hardware=cpu",
                "hardware.threads=1",
                "hardware.batch_size=2",
                "sampling.n_samples=3",
                "output.report=false",
            ),
            *("sampling.seed=11", "sampling.level_1.top_k=20", "sampling.level_0.hop_fraction=0.3"),
            *("songs=[{artist: organ trio}, {}, {offset_seconds: 2.5}]", "song.genre=folk rock"),
            *(["prompt=tune", f"prompt.seconds={prompt}"] if prompt else []),
        ],
    )
    start = own.encode(read_prompt_audio("builtin:tune", rate=44100, seconds=prompt)[:1664]) if prompt else None
    requested = [settings.song_of(sample) for sample in range(3)]
    songs = [
        jukebox.Song(artist=song.artist, genre=song.genre, offset_seconds=song.offset_seconds) for song in requested
    ]
    music = own.generate(songs, seconds=SECONDS, sampling=settings.sampling, start=start)
    run = run_plainly(settings)
    for sample in range(3):
        stored = read_codes(run / "codes" / f"sample_{sample}.npz")
        for level in range(3):
            expected = music.codes[level][sample]
            np.testing.assert_array_equal(stored.levels[level], expected, err_msg=f"level {level} of sample {sample}")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: m.generate(seconds=0), ConfigError, "seconds is 0; it must be above 0"),
        (lambda m: m.generate(seconds=0.2), ConfigError, "level 1 needs a full context of 1024 tokens; set seconds="),
        (lambda m: m.generate(seconds=601, sampling=TOP), ConfigError, r"offset_seconds \+ seconds is 601, but mini"),
        (lambda m: m.generate(jukebox.Song(total_seconds=5), seconds=6), ConfigError, "total_seconds is 5, but the mu"),
        (lambda m: m.generate(jukebox.Song(offset_seconds=-1), seconds=6), ConfigError, "offset_seconds is -1"),
        (lambda m: m.generate(n_samples=0, seconds=6), ConfigError, "n_samples is 0"),
        (lambda m: m.generate([], seconds=6), ConfigError, "n_samples is 0"),
        (lambda m: m.generate(seed=-1, seconds=6), ConfigError, "seed is -1"),
        (lambda m: m.generate([jukebox.Song()] * 2, n_samples=3, seconds=6), ConfigError, "2 songs but n_samples is 3"),
        (lambda m: m.generate(jukebox.Song(artist="organn"), seconds=6), LabelError, "artist 'organn' is not among"),
        (lambda m: m.generate(jukebox.Song(lyrics="###"), seconds=6), LabelError, "no character that the model knows"),
        (lambda m: m.generate(seconds=6, start={3: [1]}), ConfigError, "start has level 3; its levels are 0, 1, 2"),
        (lambda m: m.generate(seconds=6, start={2: [1.5]}), ConfigError, r"start\[2\] holds float64 values"),
        (lambda m: m.generate(seconds=6, start={2: [512]}), ConfigError, "codes are from 0 to 511"),
        (lambda m: m.generate(seconds=6, start={2: [[1]] * 2}), ConfigError, r"shape \(2, 1\); give \[1, tokens\]"),
        (lambda m: m.generate(seconds=2, start={2: range(500)}), ConfigError, "500 tokens but the music only [13]"),
        (lambda m: m.encode(np.zeros(100, np.float32)), AudioError, "level 2 needs at least"),
        (lambda m: m.encode(np.zeros(0, np.float32)), AudioError, "audio has 0 samples"),
        (lambda m: m.encode(np.zeros(999, np.float32), levels=[3]), ConfigError, "level is 3; choose one of 0"),
        (lambda m: m.decode(np.zeros(4)), ConfigError, "codes holds float64 values; codes are integers"),
        (lambda m: m.decode([512]), ConfigError, "511"),
        (lambda m: m.decode([1], level=5), ConfigError, "level is 5"),
    ],
)
def test_a_mistake_is_refused_with_its_message(
    model: jukebox.Jukebox, call: Callable[[jukebox.Jukebox], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call(model)


def test_an_unavailable_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model is 'minni'; choose one of .*; closest: 'mini'"):
        jukebox.load_model("minni")
    with pytest.raises(DeviceError, match="device 'cuda:9' is not available; this machine has cpu"):
        jukebox.load_model("mini", hardware=jukebox.HardwareConfig(device="cuda:9"))
    absent = jukebox.load_model("1b_lyrics", folder=tmp_path, offline=True)
    with pytest.raises(DownloadError, match="offline, and 1 file is not on this machine"):
        absent.encode(np.zeros(128, np.float32))


def test_files_are_kept_where_the_command_line_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUKEBOX_WEIGHTS", str(tmp_path / "kept"))
    jukebox.load_model("mini").encode(np.zeros(1024, np.float32))
    assert list((tmp_path / "kept").rglob("vqvae*.safetensors"))


@pytest.mark.slow  # imports torch in a process of its own
def test_neither_prefect_nor_hydra_is_needed(folder: Path) -> None:
    program = (
        "import sys, jukebox_core as jukebox\n"
        f"model = jukebox.load_model('mini', folder={str(folder)!r})\n"
        "model.generate(seconds=0.01, sampling=jukebox.SamplingConfig(stop_level=2))\n"
        "found = {'prefect', 'hydra', 'omegaconf', 'pydantic', 'stages', 'pipelines'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
