"""Protocols of a family's networks and of their sampling state: codec, token model, transcriber. Imports no torch.

A family (`jukebox_core.family`) opens networks that implement them; stages, pipelines and the Python API use nothing
else. A unit of sampling is a node (`jukebox_core.tokens.graph`), and its `Progress` makes it resumable:

    state = model.start(nodes, inputs, partial, sampling)
    while state.step() is not None:
        progress = state.save()  # to the token store, every so often
    outputs = state.results()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.features.config import FeatureSizes
    from jukebox_core.notes.note import Note
    from jukebox_core.notes.notes import Notes
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Node, Take


class SongPlan(Protocol):
    """The nodes that make one song: those of the top level first, in order within a level."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each after those it reads."""
        ...

    @property
    def take(self) -> Take:
        """The tracks of the song once every node is sealed."""
        ...

    def level(self, level: int) -> tuple[Node, ...]:
        """Returns the nodes of one level, in order."""
        ...


class Codec(Protocol):
    """Audio to codes and back, on one device."""

    code_axes: int  # axes of one song's codes: 1 for [tokens], 2 for grids [codebooks, tokens]

    def encode(self, audio: NDArray[np.float32], levels: Sequence[int]) -> list[NDArray[np.int32]]:
        """Returns the codes of audio [batch, time] at each of `levels`, [batch, ..., tokens]."""
        ...

    def decode(self, codes: NDArray[np.integer[Any]], level: int) -> NDArray[np.float32]:
        """Returns audio [batch, time] of the codes of one level, [batch, ..., tokens]; it may exceed 1."""
        ...

    def decode_reach(self, level: int) -> int:
        """Returns the decoder's receptive field: tokens on either side of a token that change its audio."""
        ...


class Progress(Protocol):
    """The resumable state of one song's window: a prefix of its tokens, an opaque state, or both."""

    @property
    def tokens(self) -> NDArray[Any] | None:
        """Tokens drawn so far, time last, unclamped, so that their steps can be repeated; None if `state` has all."""
        ...

    @property
    def state(self) -> bytes | None:
        """Opaque state of the family, such as a masked grid with the number of its pass."""
        ...


class WindowState(Protocol):
    """The sampling state of one window of a batch of songs, from `TokenModel.start`."""

    def step(self) -> int | None:
        """Advances by one block of tokens, or by one pass over a grid.

        Returns the number of tokens drawn for each song, or None if the window was full already.
        """
        ...

    def save(self) -> list[Progress]:
        """Returns the progress of each song of the batch, in order, for the store."""
        ...

    def results(self) -> list[NDArray[Any]]:
        """Returns the finished output of each song, as it is sealed."""
        ...

    def save_cache(self) -> Mapping[str, Any]:
        """Returns tensors by name that shorten a resume on the same machine; may be empty."""
        ...

    def restore_cache(self, saved: Mapping[str, Any]) -> None:
        """Continues from tensors that `save_cache` returned for the same progress, bit for bit."""
        ...


class TokenModel(Protocol):
    """A network that samples nodes, on one device."""

    def start(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[str, NDArray[np.int32]],
        partial: Sequence[Progress | None],
        sampling: Any,
    ) -> WindowState:
        """Returns the state of one window of a batch of songs, resumed as far as every song has progress.

        Args:
            nodes: one a song, all of one level and window.
            inputs: stored tokens by the names of `Node.inputs`, [batch, ..., tokens].
            partial: the stored progress of each song's window from an interrupted attempt.
            sampling: the run's `SamplingSettings`.
        """
        ...


class Transcriber(Protocol):
    """Audio to notes, on one device.

    A recording is transcribed in blocks of segments, whole numbers in the family's own form, so that each can be stored
    when it is finished. `settings` is the family's `transcription_type`.
    """

    def block_count(self, samples: int) -> int:
        """Returns the number of blocks of a recording of `samples` samples."""
        ...

    def blocks(
        self, audio: NDArray[np.float32], settings: Any, have: Sequence[NDArray[np.int32]] = ()
    ) -> Iterator[NDArray[np.int32]]:
        """Yields the blocks of mono audio [time] that follow those in `have`, each when it is finished."""
        ...

    def stream_notes(self, blocks: Iterable[NDArray[np.int32]], settings: Any, *, samples: int) -> Iterator[list[Note]]:
        """Yields the notes that have ended, as the blocks of a recording of `samples` come; then the last ones."""
        ...

    def notes_of(self, blocks: Sequence[NDArray[np.int32]], settings: Any, *, seconds: float) -> Notes:
        """Returns the notes in all blocks of a recording of `seconds`."""
        ...


class WeightFile(NamedTuple):
    """A file of weights on this machine."""

    path: Path
    identity: str  # digest of the file as it was published


class VaryingFamily(Protocol):
    """What a family has besides `jukebox_core.family.Family` if its models vary recordings.

    A recording is the prompt of the songs that vary it, and fills them; a mask says which tokens are generated.
    """

    mask_type: type  # the record of the settings section ``mask``
    sampling_type: type  # of ``sampling``
    level_names: Mapping[int, str]  # in words
    shortest_seconds: float  # of a recording

    def check_variation(self, config: Any, mask: Any, sampling: Any) -> Any:
        """Returns the sampling settings for a model, after a check of mask and sampling that needs no recording.

        Raises:
            ConfigError: they do not fit the model, or a file that the mask names cannot be read.
        """
        ...

    def check_recording(self, config: Any, mask: Any, seconds: float) -> None:
        """Checks a mask against a recording of this length; raises ConfigError."""
        ...

    def complete_mask(self, config: Any, mask: Any, recording: str, sound: Callable[[], NDArray[np.float32]]) -> Any:
        """Returns a mask with all that it takes from files and from one recording, so that it needs them no longer.

        Args:
            config: the model.
            mask: a record of `mask_type`.
            recording: name of the recording's file.
            sound: returns its audio, mono [time], at the model's rate; called only if the mask listens to it.
        """
        ...

    def hole(self, start: float, stop: float) -> Any:
        """Returns the mask that generates the seconds from `start` to `stop` alone."""
        ...

    def variation(self, mask: Any, number: int) -> Any:
        """Returns a record of `song_overrides_type`: the variation of a recording with that number."""
        ...

    def song_mask(self, request: Any, sample: int, steps: int) -> NDArray[np.bool_]:
        """Returns the mask of one song of a run, true where tokens are generated, for a recording of `steps` tokens."""
        ...


class TranscribingFamily(Protocol):
    """What a family has besides `jukebox_core.family.Family` if its models transcribe."""

    transcription_type: type  # the record of the settings section ``transcription``
    shortest_seconds: float  # of a recording

    def transcription_causes(self, config: Any, settings: Any) -> Mapping[str, Any]:
        """Returns all that decides a transcription besides weights, precision and audio, by name."""
        ...

    def check_hardware(self, hardware: HardwareConfig, kind: str) -> None:
        """Checks that a device of this kind (``cpu``, ``cuda``, ``mps``) has the chosen precision and engine.

        Raises:
            ConfigError, DeviceError: it has not.
        """
        ...

    def check_transcription(self, config: Any, settings: Any) -> None:
        """Checks that a model can transcribe in the way that `settings` ask for; raises ConfigError."""
        ...

    def transcription_bytes(self, config: Any, settings: Any, dtype: str) -> int:
        """Returns the estimated bytes of weights and of transcribing with `settings`."""
        ...

    def block_samples(self, config: Any, settings: Any) -> int | None:
        """Returns the audio samples of a block; None if each block depends on the one before."""
        ...

    def open_transcriber(self, config: Any, path: Path, hardware: HardwareConfig) -> Transcriber:
        """Returns the transcriber with the weights in `path`."""
        ...


class WindowConditioning(NamedTuple):
    """Conditioning of a batch of windows for a `FeatureExtractor`."""

    labels: Sequence[Any]  # of each window, as `FeatureFamily.condition_window` returned it
    above: NDArray[np.integer[Any]] | None = None  # codes of the level above over a whole context, [batch, tokens]


class FeatureExtractor(Protocol):
    """The first layers of a network, on one device."""

    def activations(
        self,
        codes: NDArray[np.integer[Any]],
        conditioning: WindowConditioning,
        layers: Sequence[int],
        *,
        final: bool,
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields name and activations of each layer as it is computed, float32 or float16 [batch, tokens, width].

        All come from one forward pass. Row i belongs to code i and has seen the codes before it.

        Args:
            codes: [batch, tokens], at most a context.
            conditioning: of each window.
            layers: counted from 1, ascending; named ``layer<k>``.
            final: also what the output projection reads, as ``final``.
        """
        ...


@runtime_checkable
class FeatureFamily(Protocol):
    """What a family implements besides `jukebox_core.family.Family` if features can be taken from its networks."""

    def feature_sizes(self, config: Any, level: int) -> FeatureSizes:
        """Returns the sizes of the network of `level`."""
        ...

    def condition_window(
        self, config: Any, level: int, song: Any, vocabularies: Mapping[str, Path], *, total: int, offset: int
    ) -> Any:
        """Returns the conditioning of a window, in the family's own terms, without torch.

        Args:
            config: the model.
            level: of the network.
            song: conditioning as a user gives it, or None for the family's defaults.
            vocabularies: files by role.
            total: length of the whole song, in audio samples.
            offset: start of the window in it, in audio samples.

        Raises:
            LabelError: the model does not know a name or text.
        """
        ...

    def open_features(
        self,
        config: Any,
        level: int,
        path: Path,
        identity: str,
        hardware: HardwareConfig,
        library: Path | None,
        *,
        deepest: int,
    ) -> FeatureExtractor:
        """Returns the first `deepest` layers of the network of `level`; the weights of others are not read.

        Arguments as `jukebox_core.family.Family.open_model`.
        """
        ...

    def feature_bytes(self, config: Any, level: int, deepest: int, dtype: str, batch: int) -> int:
        """Returns the estimated bytes of the first `deepest` layers and a batch of windows."""
        ...


class Aligner(Protocol):
    """The layers of a network that attend to a text, on one device."""

    def align(
        self,
        codes: NDArray[np.integer[Any]],
        conditioning: Any,
        *,
        hop: float,
        merge: str,
        before_batch: Callable[[], None] | None = None,
    ) -> NDArray[np.float32]:
        """Returns the attention from each code to each character of the text, float32 [tokens, characters].

        Args:
            codes: of the song's top level, [tokens].
            conditioning: of the song, as `jukebox_core.family.Family.condition` returned it.
            hop: start of a window after the one before, as a share of the context.
            merge: how windows that overlap are joined: ``first`` or ``mean`` (docs/alignment.md).
            before_batch: called before each batch of windows; what it raises ends the alignment.
        """
        ...


@runtime_checkable
class LabelledFamily(Protocol):
    """What a family implements besides `jukebox_core.family.Family` if its models know artists and genres by name."""

    def has_names(self, config: Any) -> bool:
        """Whether the model has labels."""
        ...

    def names(self, config: Any, vocabularies: Mapping[str, Path]) -> Mapping[str, Sequence[str]]:
        """Returns the artists and genres by kind, from vocabularies by role; LabelError if one is unreadable."""
        ...


@runtime_checkable
class AlignmentFamily(Protocol):
    """What a family implements besides `jukebox_core.family.Family` if it can align texts with music."""

    def aligned_text(self, config: Any, conditioning: Any) -> str:
        """Returns the text of a song as the model reads it; "" if it has none."""
        ...

    def aligned_position(self, conditioning: Any) -> tuple[int, int]:
        """Returns the length of the song and the start of the music in it, in audio samples."""
        ...

    def aligning_head(self, config: Any, layer: int | None, head: int | None) -> tuple[int, int]:
        """Returns the layer and the head that are read, counted from 0; None: those of the model's settings.

        Raises:
            ConfigError: the model reads no text or names no head, or the layer or head does not attend to the text.
        """
        ...

    def open_aligner(
        self,
        config: Any,
        path: Path,
        identity: str,
        hardware: HardwareConfig,
        library: Path | None,
        *,
        layer: int | None,
        head: int | None,
    ) -> Aligner:
        """Returns the aligner of a head, both counted from 0; None: those of the model's settings.

        Arguments as `jukebox_core.family.Family.open_model`, of the top level.
        """
        ...
