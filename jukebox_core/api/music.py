"""What a model made: codes of every level and their sound, to hear, to save and to go on from."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import soundfile

from jukebox_core.audio.files import write_audio
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from jukebox_core.audio.files import Tag

    Codes = NDArray[np.int64]
    Audio = NDArray[np.float32]


class Maker(Protocol):
    """The model that made music, with what it was asked for."""

    def decode(self, codes: Codes, level: int) -> Audio:
        """Returns the sound of one level's codes, float32 [samples, time]."""

    def again(self, music: Music, changes: Mapping[str, Any], *, keep_seconds: float | None, finer: bool) -> Music:
        """Returns other music that starts with this: longer, or with its lower levels (`finer`)."""

    def tags(self, sample: int, title: str) -> dict[Tag, str]:
        """Returns the tags of the sound of one sample."""


@dataclass(frozen=True, slots=True, repr=False)
class Music:
    """The result of `Model.generate`; ``music[1]`` is the music of sample 1 alone."""

    codes: Mapping[int, Codes]  # by level, those that were sampled: int64 [samples, tokens]
    audio: Audio  # float32 [samples, time], decoded from the lowest of these levels; may exceed 1
    sample_rate: int  # Hz
    finished: bool = True  # false: sampling was interrupted, and this is what was there
    maker: Maker | None = field(default=None, compare=False)  # None: it cannot be continued
    samples: tuple[int, ...] = ()  # of the request: which each row is; empty: in order

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return float(self.audio.shape[-1] / self.sample_rate)

    def __repr__(self) -> str:
        levels = ", ".join(map(str, sorted(self.codes, reverse=True)))
        state = "" if self.finished else ", interrupted"
        return f"Music({len(self)} samples of {self.seconds:.2f} s, levels {levels}{state})"

    def __len__(self) -> int:
        return len(self.audio)

    def __iter__(self) -> Iterator[Music]:
        return (self[sample] for sample in range(len(self)))

    def __getitem__(self, chosen: int | slice) -> Music:
        """Returns the music of one sample, or of a range of samples; IndexError if there is no such sample."""
        rows = range(len(self))
        index = list(rows[chosen]) if isinstance(chosen, slice) else [rows[chosen]]
        codes = {level: each[index] for level, each in self.codes.items()}
        named = self.samples or tuple(range(len(self)))
        samples = tuple(named[row] for row in index)
        return Music(codes, self.audio[index], self.sample_rate, self.finished, self.maker, samples)

    def level(self, level: int) -> Audio:
        """Returns the sound of one level's codes, float32 [samples, time]; the top level is a draft.

        Raises:
            ConfigError: the level was not sampled, or the music does not know its model.
        """
        if level not in self.codes:
            raise ConfigError(f"level {level} was not sampled; choose one of {', '.join(map(str, sorted(self.codes)))}")
        return self._made_by().decode(self.codes[level], level)

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes the sound as wav, flac or mp3, by the suffix of `path`; several samples as ``song_0.wav`` and so on.

        Returns:
            The paths, one a sample.

        Raises:
            AudioError: the suffix is of no known format.
            DiskError: a file cannot be written.
        """
        given = Path(path)
        named = self.samples or tuple(range(len(self)))
        paths = [given] if len(self) == 1 else [given.with_stem(f"{given.stem}_{sample}") for sample in named]
        for sample, each, sound in zip(named, paths, self.audio, strict=True):
            tags: dict[Tag, str] = {"title": each.stem}
            if self.maker is not None:
                tags = self.maker.tags(sample, each.stem)
            write_audio(each, sound, self.sample_rate, tags=tags)
        return paths

    def continue_(self, seconds: float, *, keep_seconds: float | None = None, **changes: Any) -> Music:
        """Returns longer music that begins with this one, by the same model, songs and settings.

        Args:
            seconds: length of the result, what is kept included.
            keep_seconds: cut this music to so much first; None keeps all.
            changes: arguments of `Model.generate` with other values: ``songs``, ``seed``, ``sampling``, ``store``, ...

        Raises:
            ConfigError: the music does not know its model; or as `Model.generate`.
        """
        return self._made_by().again(self, {**changes, "seconds": seconds}, keep_seconds=keep_seconds, finer=False)

    def upsample(self, **changes: Any) -> Music:
        """Returns the same music with its lower levels, down to 0; `changes` and errors as of `continue_`."""
        return self._made_by().again(self, changes, keep_seconds=None, finer=True)

    def _repr_html_(self) -> str:
        """Returns a player for each sample, which a notebook shows."""
        named = self.samples or tuple(range(len(self)))
        rows = [_player(f"sample {n}", sound, self.sample_rate) for n, sound in zip(named, self.audio, strict=True)]
        note = "" if self.finished else "<div>interrupted: this is what was there</div>"
        return f"<div>{note}{''.join(rows)}</div>"

    def _made_by(self) -> Maker:
        if self.maker is None:
            raise ConfigError("this music does not know its model; make it with Model.generate")
        return self.maker


class Piece(NamedTuple):
    """What `Model.stream` gives after every window: how far the music is, and how it sounds so far."""

    level: int  # that was sampled
    seconds: float  # of the music are sampled at that level, in every sample
    codes: Mapping[int, Codes]  # so far, by level: int64 [samples, tokens]
    maker: Maker
    hops: Sequence[int]

    @property
    def audio(self) -> Audio:
        """The sound so far, float32 [samples, time]: each moment from the lowest level that is there. Decoded here."""
        return composite(self.codes, self.maker, self.hops)


def composite(codes: Mapping[int, Codes], maker: Maker, hops: Sequence[int]) -> Audio:
    """Returns the sound of codes whose levels end at different times, each moment from the lowest level it has."""
    pieces: list[Audio] = []
    end = 0  # in samples
    for level in sorted(codes):
        whole = maker.decode(codes[level], level)
        pieces.append(whole[..., end:])
        end = max(end, codes[level].shape[-1] * hops[level])
    return np.concatenate(pieces, axis=-1)


def _player(name: str, sound: Audio, rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, np.clip(sound, -1, 1), rate, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(file.getvalue()).decode()
    label = html.escape(f"{name}, {len(sound) / rate:.1f} s")
    return f'<div>{label}<br><audio controls aria-label="{label}" src="data:audio/flac;base64,{data}"></audio></div>'
