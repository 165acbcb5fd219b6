"""A third family of models, as another package would bring it: masked grids over a codec of constant tones.

A window is a grid [codebooks, tokens] that is refined in passes; its resumable state is the grid and its pass.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from jukebox_core.api.model import Model
from jukebox_core.base.hashing import digest
from jukebox_core.errors import CheckpointError, ConfigError, LabelError
from jukebox_core.tokens.graph import Node, Take, make_node
from jukebox_core.tokens.plan import Window, whole_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PASSES, MOODS = 6, ("calm", "bright")


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    sample_rate: int = 8000
    hop: int = 80
    codebooks: int = 3
    bins: int = 16
    context: int = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    seed: int = 0
    n_samples: int = 1
    stop_level: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mood:
    mood: str = "calm"


@dataclass(frozen=True, kw_only=True, slots=True)
class MoodOverride:
    mood: str | None = None

    def apply(self, song: Mood) -> Mood:
        return song if self.mood is None else Mood(mood=self.mood)


@dataclass(frozen=True, slots=True)
class Config:
    name: str
    network: Network
    top: int = 0
    sample_rate = property(lambda self: self.network.sample_rate)
    hops = property(lambda self: (self.network.hop,))
    bins = property(lambda self: self.network.bins)

    def seconds(self, level: int, tokens: int) -> float:
        return tokens * self.hops[level] / self.sample_rate


@dataclass(frozen=True, slots=True)
class Plan:
    nodes: tuple[Node, ...]
    take: Take

    def level(self, level: int) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.level == level)


@dataclass(frozen=True, slots=True)
class Progress:
    tokens: None
    state: bytes | None


@dataclass(slots=True)
class Grids:
    """The state of one window of a batch: every pass adds a draw of (seed, sample, pass) to each grid."""

    nodes: Sequence[Node]
    grids: NDArray[np.int32]  # [batch, codebooks, new tokens]
    done: int
    seed: int
    bins: int

    def step(self) -> int | None:
        if self.done == PASSES:
            return None
        time.sleep(float(os.environ.get("DUMMY_STEP_SECONDS", "0")))
        for grid, node in zip(self.grids, self.nodes, strict=True):
            draw = np.random.default_rng([self.seed, node.sample, node.window.start, self.done])
            grid += draw.integers(self.bins, size=grid.shape, dtype=np.int32)
        self.grids %= self.bins
        self.done += 1
        return self.grids.shape[-1] // PASSES

    def save(self) -> list[Progress]:
        head = bytes([self.done])
        return [Progress(None, head + grid.tobytes() if self.done else None) for grid in self.grids]

    def results(self) -> list[NDArray[np.int32]]:
        return list(self.grids)

    def save_cache(self) -> Mapping[str, Any]:
        return {}

    def restore_cache(self, saved: Mapping[str, Any]) -> None:
        raise AssertionError("it keeps no cache")


@dataclass(frozen=True, slots=True)
class GridModel:
    config: Config

    def start(self, nodes: Any, inputs: Any, partial: Any, sampling: Sampling) -> Grids:
        new, rows = nodes[0].window.new, self.config.network.codebooks
        states = [each.state if each is not None and each.state else b"" for each in partial]
        last = inputs["reads"][..., -1:] if inputs["reads"].size else np.zeros((len(nodes), rows, 1), np.int32)
        grids = (
            np.repeat(last, new, axis=-1)
            + np.array([MOODS.index(node.causes["mood"]) for node in nodes])[:, None, None]
        )
        done = 0
        if all(states) and len({state[0] for state in states}) == 1:
            done = states[0][0]
            grids = np.stack([np.frombuffer(state[1:], np.int32).reshape(rows, new) for state in states])
        return Grids(nodes, np.ascontiguousarray(grids, np.int32), done, sampling.seed, self.config.bins)


@dataclass(frozen=True, slots=True)
class ToneCodec:
    config: Config
    code_axes: int = 2

    def encode(self, audio: NDArray[np.float32], levels: Sequence[int]) -> list[NDArray[np.int32]]:
        hop, rows = self.config.network.hop, self.config.network.codebooks
        means = audio[:, : audio.shape[1] // hop * hop].reshape(len(audio), -1, hop).mean(-1)
        codes = np.clip((means * self.config.bins).astype(np.int32), 0, self.config.bins - 1)
        return [np.repeat(codes[:, None], rows, axis=1) for _ in levels]

    def decode(self, codes: NDArray[Any], level: int) -> NDArray[np.float32]:
        loudness = codes.mean(axis=1) / self.config.bins
        return np.repeat(loudness, self.config.network.hop, axis=-1).astype(np.float32)

    def decode_reach(self, level: int) -> int:
        return 0


class DummyFamily:
    name = "dummy"
    network_type, sampling_type, song_type, song_overrides_type = Network, Sampling, Mood, MoodOverride
    codec_role = "codec"
    dtypes = ("float32", "bfloat16", "float16", "int8")

    def config(self, name: str, network: Network) -> Config:
        return Config(name, network)

    def roles(self, config: Config) -> tuple[str, ...]:
        return ("codec", "model")

    def role_of(self, level: int) -> str:
        return "model"

    def files_of(self, role: str) -> tuple[str, ...]:
        return (role,)

    def check_file(self, config: Config, role: str, path: Path) -> None:
        if load_file(path).keys() != {role}:
            raise CheckpointError(f"{path} is not the {role} of {config.name}; fetch it again")

    def initialise(self, config: Config, role: str, seed: int, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({role: np.full(4, seed, np.float32)}, path)

    def initialise_causes(self, config: Config, role: str) -> Mapping[str, Any]:
        return asdict(config.network)

    def codec_causes(self, config: Config) -> Mapping[str, Any]:
        return asdict(config.network)

    def split(self, config: Config, role: str, shards: Sequence[Path], path: Path) -> None:
        raise CheckpointError("no copy of it holds all networks")

    def check_song(self, config: Config, song: Mood, seconds: float) -> None:
        if song.mood not in MOODS:
            raise ConfigError(f"mood is {song.mood!r}; choose one of {', '.join(MOODS)}")

    def complete_song(self, config: Config, song: Mood, seconds: float, usual_seconds: float | None) -> Mood:
        return song

    def length(self, request: Any) -> int:
        network = request.config.network
        length = whole_tokens(request.seconds, network.sample_rate, network.hop) * network.hop
        if length <= 0:
            raise ConfigError(f"seconds is {request.seconds}, shorter than one token; ask for more")
        return length

    def condition(self, request: Any, vocabularies: Mapping[str, Path]) -> tuple[str, ...]:
        known = vocabularies["moods"].read_text().split()
        moods = tuple(request.song_of(sample).mood for sample in range(request.sampling.n_samples))
        if set(moods) - set(known):
            raise LabelError(f"the model knows {', '.join(known)}; choose among these")
        return moods

    def plan(self, request: Any, conditioning: Any, weights: Mapping[str, str], have: Sequence[Take]) -> list[Plan]:
        songs = enumerate(zip(conditioning, have, strict=True))
        return [self._song(request, sample, mood, take, weights["model"]) for sample, (mood, take) in songs]

    def _song(self, request: Any, sample: int, mood: str, take: Take, weights: str) -> Plan:
        [track], nodes, network = take, [], request.config.network
        total = self.length(request) // network.hop
        while len(track) < total:
            at = len(track)
            node = make_node(
                level=0, sample=sample, window=Window(at, at, min(total, at + network.context)),
                inputs={"reads": track.slice(max(0, at - 1), at)}, output="grid", family=self.name, mood=mood,
                weights=weights, seed=request.sampling.seed, network=digest(asdict(network)), dtype=request.dtype,
            )  # fmt: skip
            nodes.append(node)
            track = track.extend(node.key, node.window.stop)
        return Plan(tuple(nodes), (track,))

    def describe(self, song: Mood) -> Mapping[str, str]:
        return {"genre": song.mood}

    def open_api(self, preset: Any, hardware: Any, weights: Any) -> Model:
        return Model(preset, hardware, weights)

    def open_codec(self, config: Config, path: Path, hardware: Any) -> ToneCodec:
        return ToneCodec(config)

    def code_lengths(self, config: Config, codec: Path, samples: int) -> tuple[int, ...]:
        return (samples // config.network.hop,)

    def open_model(self, config: Config, role: str, files: Any, hardware: Any, library: Any) -> GridModel:
        return GridModel(config)

    def estimate_bytes(self, config: Config, levels: Sequence[int], dtype: str, batch: int, *, together: bool) -> int:
        return 1000 * batch

    def approximate_parameters(self, config: Config) -> int:
        return 4


FAMILY = DummyFamily()
