"""Extraction: recordings to arrays of codes and activations, in batches of windows of several recordings. No torch.

Networks are reached through `jukebox_core.protocols`: a codec encodes, a `FeatureExtractor` computes activations.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jukebox_core.errors import AudioError, ConfigError, JukeboxError, LabelError, NumericsError
from jukebox_core.features.clips import cut_clips, encoded_part, plan_windows, song_timing
from jukebox_core.features.config import FINAL, codes_name, layer_name
from jukebox_core.features.pooling import RowPool
from jukebox_core.protocols import WindowConditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from jukebox_core.features.clips import FeatureWindow
    from jukebox_core.features.config import FeatureConfig, FeatureSizes
    from jukebox_core.protocols import Codec, FeatureExtractor

    Result = dict[str, NDArray[Any]] | JukeboxError


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One recording: its audio or its codes, and what the network is conditioned on."""

    audio: NDArray[np.float32] | None = None  # mono [time], at the model's rate
    codes: Mapping[int, NDArray[np.integer[Any]]] | None = None  # by level, [tokens], instead of audio
    song: Any = None  # the family's song record
    total_seconds: float | None = None  # of the whole song; None: of this recording, and what is before it
    offset_seconds: float = 0.0  # start of this recording in that song


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """What extraction needs of a model."""

    config: FeatureConfig
    sizes: FeatureSizes
    hops: Sequence[int]  # audio samples per code of each level, the finest first
    bins: int  # codes are in [0, bins)
    codec: Callable[[], Codec]  # called when audio is encoded
    extractor: FeatureExtractor | None  # None if the recipe takes codes alone
    conditioning: Callable[[Any, int, int], Any]  # of a window, from song, total and offset in audio samples
    batch: int = 1  # windows of one forward pass
    needs_above: bool = False  # the network reads the codes of the level above


class _Window(NamedTuple):
    """A window that waits for a batch."""

    clip: _Clip
    at: FeatureWindow
    conditioning: Any


@dataclass
class _Clip:
    """A clip while its windows are computed."""

    owner: _Open
    codes: Mapping[int, NDArray[np.int64]]  # by level
    kept: int  # codes of the network's level that are kept
    pools: dict[str, RowPool]

    def arrays(self, networks: Networks) -> dict[str, NDArray[Any]]:
        """Returns the finished arrays of the clip, by name."""
        found: dict[str, NDArray[Any]] = {}
        for level in networks.config.chosen_codes(len(networks.hops)):
            own, hop = networks.sizes.hop, networks.hops[level]
            found[codes_name(level)] = self.codes[level][: self.kept * own // hop]
        return found | {name: pool.result() for name, pool in self.pools.items()}


@dataclass
class _Open:
    """A recording while its windows are computed."""

    index: int
    clips: list[_Clip] = field(default_factory=list)
    waiting: int = 0  # windows
    sliced: bool = False


def extract(recordings: Iterable[Recording | JukeboxError], networks: Networks) -> Iterator[tuple[int, Result]]:
    """Yields the arrays of each recording by name, with its index, as they are finished.

    Arrays are ``layer<k>`` and ``final`` ([width] if pooled, else [rows, width]) and ``codes<l>`` ([tokens], int64);
    a recipe with slices adds an axis [clips, ...] in front. A recording that is an error, or that cannot be used, is
    yielded as the error: others go on.

    Raises:
        JukeboxError: what concerns all recordings, such as weights that are damaged.
    """
    queues: dict[int, list[_Window]] = defaultdict(list)  # by length: windows of one batch have the same
    for index, recording in enumerate(recordings):
        if isinstance(recording, JukeboxError):
            yield index, recording
            continue
        try:
            opened, windows = _open(index, recording, networks)
        except _OF_A_RECORDING as error:
            yield index, error
            continue
        if not windows:
            yield index, _finished(opened, networks)
        for window in windows:
            queue = queues[window.at.stop - window.at.start]
            queue.append(window)
            if len(queue) >= networks.batch:
                yield from _compute(queue, networks)
                queue.clear()
    for queue in queues.values():
        yield from _compute(queue, networks)


_OF_A_RECORDING = (AudioError, ConfigError, LabelError, NumericsError)


def _open(index: int, recording: Recording, networks: Networks) -> tuple[_Open, list[_Window]]:
    config, sizes = networks.config, networks.sizes
    opened, windows = _Open(index, sliced=config.slice_seconds is not None), list[_Window]()
    for codes, kept, start in _encoded(recording, networks):
        names = [layer_name(layer) for layer in config.chosen_layers(sizes)] + [FINAL] * config.final
        pools = {name: RowPool(config, sizes.code_rate) for name in names}
        tokens = len(codes[sizes.level])
        factor = networks.hops[sizes.level + 1] // sizes.hop if networks.needs_above else 1
        planned = plan_windows(tokens, kept, config, sizes, align=factor)
        clip = _Clip(opened, codes, planned[-1].last if config.windows == "first" else kept, pools)
        opened.clips.append(clip)
        if not pools:
            continue
        total_seconds = recording.total_seconds
        if total_seconds is None:
            total_seconds = recording.offset_seconds + _samples(recording, sizes) / sizes.rate
        for at in planned:
            timing = song_timing(
                config,
                sizes,
                start=at.start,
                total_seconds=total_seconds,
                offset_seconds=recording.offset_seconds + start / sizes.rate,
            )
            windows.append(_Window(clip, at, networks.conditioning(recording.song, *timing)))
    opened.waiting = len(windows)
    return opened, windows


def _samples(recording: Recording, sizes: FeatureSizes) -> int:
    if recording.audio is not None:
        return len(recording.audio)
    assert recording.codes is not None
    return len(recording.codes[sizes.level]) * sizes.hop


def _encoded(recording: Recording, networks: Networks) -> Iterator[tuple[Mapping[int, NDArray[np.int64]], int, int]]:
    """Yields the codes of each clip by level, how many of the network's level are real, and its first audio sample."""
    config, sizes, hops = networks.config, networks.sizes, networks.hops
    needed = {sizes.level, *config.chosen_codes(len(hops)), *([sizes.level + 1] if networks.needs_above else [])}
    if recording.codes is not None:
        codes = {level: np.asarray(tokens).astype(np.int64) for level, tokens in recording.codes.items()}
        missing = sorted(needed - set(codes))
        if missing:
            raise ConfigError(
                f"codes of level {', '.join(map(str, missing))} are needed and not given; add them, or give audio"
            )
        for level, tokens in codes.items():
            if tokens.min() < 0 or tokens.max() >= networks.bins:
                raise ConfigError(
                    f"codes of level {level} hold {tokens.min()} to {tokens.max()}; this model's are 0 to "
                    f"{networks.bins - 1}: give codes that its codec made"
                )
        yield codes, len(codes[sizes.level]), 0
        return
    assert recording.audio is not None
    step = config.slice_hop_seconds or config.slice_seconds or 0.0
    for number, clip in enumerate(cut_clips(recording.audio, config, sizes.rate)):
        part, kept = encoded_part(clip, config, sizes)
        levels = sorted(needed)
        found = _encode(part, levels, networks)
        yield dict(zip(levels, found, strict=True)), kept, number * int(step * sizes.rate)


def _encode(audio_T: NDArray[np.float32], levels: Sequence[int], networks: Networks) -> list[NDArray[np.int64]]:
    """Returns the codes of a clip at each of `levels`: encoded as a whole, or window by window."""
    size = networks.sizes.context * networks.sizes.hop
    step = size if networks.config.encode == "window" else len(audio_T)
    pieces = [audio_T[start : start + step] for start in range(0, len(audio_T), step)]
    pieces = [piece for piece in pieces if len(piece) >= networks.sizes.hop]
    encoded = [networks.codec().encode(np.ascontiguousarray(piece)[None], levels) for piece in pieces]
    return [np.concatenate([each[at][0] for each in encoded], axis=-1).astype(np.int64) for at in range(len(levels))]


def _compute(windows: Sequence[_Window], networks: Networks) -> Iterator[tuple[int, Result]]:
    """Computes a batch of windows of one length; yields the recordings that it finishes."""
    if not windows:
        return
    extractor, sizes, config = networks.extractor, networks.sizes, networks.config
    assert extractor is not None
    codes_BT = np.stack([window.clip.codes[sizes.level][window.at.start : window.at.stop] for window in windows])
    above_BU = None
    if networks.needs_above:
        factor = networks.hops[sizes.level + 1] // sizes.hop
        above_BU = np.stack([_above(window, sizes, factor) for window in windows])
    conditioning = WindowConditioning([window.conditioning for window in windows], above_BU)
    layers = config.chosen_layers(sizes)
    for name, rows_BTW in extractor.activations(codes_BT, conditioning, layers, final=config.final):
        for window, rows_TW in zip(windows, rows_BTW, strict=True):
            at = window.at
            window.clip.pools[name].add(rows_TW[at.first - at.start : at.last - at.start])
    for window in windows:
        owner = window.clip.owner
        owner.waiting -= 1
        if not owner.waiting:
            yield owner.index, _finished(owner, networks)


def _above(window: _Window, sizes: FeatureSizes, factor: int) -> NDArray[np.int64]:
    """Returns the codes above a window: a whole context of them, filled with code 0 where the clip ends."""
    first, count = window.at.start // factor, sizes.context // factor
    codes = window.clip.codes[sizes.level + 1][first : first + count]
    return np.pad(codes, (0, count - len(codes)))


def _finished(opened: _Open, networks: Networks) -> Result:
    try:
        made = [clip.arrays(networks) for clip in opened.clips]
    except JukeboxError as error:  # too short for a row
        return error
    if not opened.sliced:
        return made[0]
    return {name: np.stack([arrays[name] for arrays in made]) for name in made[0]}
