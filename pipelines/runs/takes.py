"""Initial takes of a run: those of source runs, chosen, cut and spliced. Imports neither torch nor Prefect.

A run is a path in a tree of windows. It shares windows of its source runs by key, without a copy, and adds its own
below them. The manifest of a planned run records the shared part, so that the source runs are no longer needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import user_path
from jukebox_core.base.structuring import to_plain
from jukebox_core.errors import ConfigError, RunError
from jukebox_core.store.pins import Pin, Pins
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Take, Track
from jukebox_core.tokens.plan import whole_tokens
from pipelines.runs.contents import differences, other_settings
from pipelines.runs.folder import RunFolder, find_run, identity, lock_of, run_path, take_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.settings.generate import Settings, SpliceSettings
    from stages.sampling.prompt import Prompt


def starting_takes(settings: Settings, prompts: Sequence[Prompt] = (), *, resume: bool = False) -> list[Take]:
    """Returns the initial take of each song: from source runs, from a prompt, or of empty tracks.

    A planned run has recorded its initial takes, and its source runs are needed no longer. Where these exist and have
    become others, theirs are returned, unless `resume` is true: then the songs make another run.

    Raises:
        ConfigError: a sample, time or range that the source runs do not have.
        RunError: a source run is unknown, of another model, or not sampled that far yet.
    """
    if settings.source is None:
        empty = (Track(),) * len(settings.config.hops)
        return [prompt.take for prompt in prompts] or [empty] * settings.sampling.n_samples
    return _recorded(settings, resume) or _from_runs(settings)


def check_source(settings: Settings, *, resume: bool = False) -> None:
    """Checks that the source runs exist, were made by this model, and have the samples and times of the settings.

    Raises:
        ConfigError: a sample, time or range that they do not have, or more music than the song's length.
        RunError: a source run is unknown, of another model, or not sampled that far yet.
    """
    if settings.source is None or _recorded(settings, resume) is not None:
        return
    source = RunFolder(user_path(settings.source.run))
    _check_model(source, settings, ("name", "family", "network"))
    top = settings.model.config.top
    kept = max(len(take[top]) for take in _from_runs(settings)) * settings.config.hops[top]
    if kept > settings.length and settings.source.command == "continue":
        begins = kept / settings.config.sample_rate
        raise ConfigError(
            f"seconds is {settings.seconds:g}, but the songs begin with {begins:.4g} s of earlier runs; "
            "ask for more seconds, or keep less with source.keep_seconds"
        )


def check_weights(settings: Settings, weights: Mapping[str, str], *, resume: bool = False) -> None:
    """Checks that the source runs were made with the weights of this run.

    Raises:
        RunError: another codec or network made their tokens.
    """
    if settings.source is None or _recorded(settings, resume) is not None:
        return
    runs = [(RunFolder(user_path(settings.source.run)), tuple(weights))]
    runs += [
        (find_run(piece.run, settings.storage.root), (settings.family.codec_role,)) for piece in settings.source.splice
    ]
    for run, roles in runs:
        theirs = run.manifest().get("weights", {})
        for role in roles:
            if theirs.get(role, weights[role]) != weights[role]:
                raise RunError(
                    f"run {run.name} was made with other weights ({role} {theirs[role][:12]}, here "
                    f"{weights[role][:12]}); continue with the weights that made it"
                )


def note_plan(settings: Settings, run: RunFolder, start: Sequence[Take], takes: Sequence[Take]) -> None:
    """Records the initial and the final takes of the songs in the manifest, and pins their windows in the token store.

    Raises:
        StoreError: the store cannot be written.
    """
    store = TokenStore(settings.storage.tokens).uri
    keys = frozenset(span.key for take in takes for track in take for span in track)
    Pins(store).put(Pin(run.name, run.place, keys))
    texts = [take_to_json(take) for take in takes]
    run.update(store=store, lock=lock_of(settings), takes=texts, **_origin(settings, start))


def _origin(settings: Settings, start: Sequence[Take]) -> dict[str, Any]:
    """Returns the manifest's record of the source run: the parent, and the number of tokens kept of each track."""
    source, config = settings.source, settings.model.config
    if source is None:
        return {}
    samples = source.samples if len(source.samples) != 1 else source.samples * len(start)
    parent = {
        "run": Path(source.run).name,
        "path": source.run,
        "command": source.command,
        "samples": list(samples or range(len(start))),
        "keep_seconds": source.keep_seconds,
        "splice": [to_plain(piece) | {"run": Path(piece.run).name} for piece in source.splice],
        "begins_seconds": [round(config.seconds(config.top, len(take[config.top])), 3) for take in start],
    }
    return {"parent": parent, "kept": [[len(track) for track in take] for take in start]}


def _recorded(settings: Settings, resume: bool) -> list[Take] | None:
    """Returns the initial takes that the manifest recorded when this run was planned; None if it never was.

    None too if the source runs exist and their takes are others now, and `resume` is false.
    """
    run = RunFolder(run_path(settings))
    manifest = run.known_manifest()
    if not manifest.get("kept") or other_settings(run.identity(), identity(settings)):
        return None
    recorded = [
        tuple(track.cut(length) for track, length in zip(take, lengths, strict=True))
        for take, lengths in zip(run.takes(), manifest["kept"], strict=True)
    ]
    if resume:
        return recorded
    try:
        return recorded if _from_runs(settings) == recorded else None
    except (ConfigError, RunError):  # they are gone, or are sampled again
        return recorded


def _from_runs(settings: Settings) -> list[Take]:
    source = settings.source
    assert source is not None
    run = _SourceRun.read(RunFolder(user_path(source.run)), settings)
    takes = [run.prefix(sample, source.keep_seconds) for sample in _chosen(settings, len(run.takes))]
    for index, piece in enumerate(source.splice):
        other = _SourceRun.read(find_run(piece.run, settings.storage.root), settings)
        _check_codec(other.run, settings)
        takes = [other.splice(take, piece, f"source.splice.{index}") for take in takes]
    return takes


def _chosen(settings: Settings, available: int) -> Sequence[int]:
    """Returns the sample of the source run that each song starts from; the run has `available` samples."""
    assert settings.source is not None
    samples, name = settings.source.samples, Path(settings.source.run).name
    count: int = settings.sampling.n_samples
    for sample in samples:
        if sample >= available:
            raise ConfigError(
                f"source.samples names {sample}, but run {name} has {_samples(available)}; choose among these"
            )
    if len(samples) == 1:
        return samples * count
    if samples and len(samples) != count:
        raise ConfigError(
            f"source.samples names {len(samples)} samples but sampling.n_samples is {count}; "
            f"set sampling.n_samples={len(samples)}, or name one sample to start every song from"
        )
    if not samples and available != count:
        raise ConfigError(
            f"run {name} has {available} samples but sampling.n_samples is {count}; "
            "leave that override out, or choose the samples to start from with source.samples"
        )
    return samples or range(available)


def _samples(count: int) -> str:
    return f"samples 0 to {count - 1}" if count > 1 else "sample 0 only"


@dataclass(frozen=True, slots=True)
class _SourceRun:
    """A run that another one starts from, as far as it is sampled."""

    run: RunFolder
    settings: Settings  # of the run that starts from it
    takes: list[Take]
    planned: list[int]  # top-level tokens of each take once the run is finished

    @classmethod
    def read(cls, run: RunFolder, settings: Settings) -> _SourceRun:
        """Returns the source run; if it is not finished, each track is cut to its stored prefix."""
        takes = run.takes()
        planned = [len(take[-1]) for take in takes]
        if run.manifest().get("status") != "finished":
            keys = {span.key for take in takes for track in take for span in track}
            missing = TokenStore(settings.storage.tokens).missing(keys)
            takes = [tuple(track.cut(track.reach(missing)) for track in take) for take in takes]
        return cls(run, settings, takes, planned)

    def prefix(self, sample: int, seconds: float | None) -> Take:
        """Returns a sample's take, or its first `seconds`: every level cut to the same whole top-level tokens."""
        take = self.takes[sample]
        if seconds is not None:
            return _part(take, self._tokens(sample, seconds, "source.keep_seconds"), self.settings)
        if len(take[-1]) < self.planned[sample]:
            raise RunError(
                f"run {self.run.name} is not finished: sample {sample} has {self._available(sample)}; finish it "
                f"with `jukebox runs resume {self.run.name}`, or set source.keep_seconds to the part to keep"
            )
        return take

    def splice(self, take: Take, piece: SpliceSettings, where: str) -> Take:
        """Returns `take` with a range of one of the run's takes appended.

        A level that ends before the top level, or that the range lacks, stays unchanged: it is sampled again.
        """
        if piece.sample >= len(self.takes):
            raise ConfigError(
                f"{where}.sample is {piece.sample}, but run {self.run.name} has {_samples(len(self.takes))}; "
                "choose among these"
            )
        start = self._tokens(piece.sample, piece.from_seconds, f"{where}.from_seconds")
        stop = len(self.takes[piece.sample][-1])
        if piece.to_seconds is not None:
            stop = self._tokens(piece.sample, piece.to_seconds, f"{where}.to_seconds")
        if start >= stop:
            raise ConfigError(
                f"{where} is {piece.from_seconds:g} s to {piece.to_seconds or 'the end'} of {self.run.name}, less than "
                f"one top-level token ({self._seconds(1):.4f} s); take more of it"
            )
        hops, other = self.settings.config.hops, self.takes[piece.sample]
        here = len(take[-1]) * hops[-1]
        return tuple(
            track.append(theirs.slice(start * factor, stop * factor))
            if len(track) * hop == here and len(theirs) >= stop * factor
            else track
            for track, theirs, hop, factor in zip(take, other, hops, _factors(self.settings), strict=True)
        )

    def _tokens(self, sample: int, seconds: float, where: str) -> int:
        """Returns the number of whole top-level tokens in `seconds` of a sample."""
        config = self.settings.model.config
        tokens = whole_tokens(seconds, config.sample_rate, config.hops[-1])
        if tokens > len(self.takes[sample][-1]):
            raise ConfigError(
                f"{where} is {seconds:g}, but sample {sample} of run {self.run.name} has {self._available(sample)}; "
                "choose a time within that"
            )
        return tokens

    def _available(self, sample: int) -> str:
        stored, planned = len(self.takes[sample][-1]), self.planned[sample]
        return f"{self._seconds(stored):.4g} s" + (f" of {self._seconds(planned):.4g} s" if stored < planned else "")

    def _seconds(self, tokens: int) -> float:
        seconds: float = self.settings.config.seconds(self.settings.config.top, tokens)
        return seconds


def _factors(settings: Settings) -> list[int]:
    """Returns the number of tokens of each level per top-level token."""
    hops = settings.config.hops
    return [hops[-1] // hop for hop in hops]


def _part(take: Take, tokens: int, settings: Settings) -> Take:
    """Returns the prefix of a take: `tokens` of the top level, and the same duration of the others."""
    return tuple(track.cut(tokens * factor) for track, factor in zip(take, _factors(settings), strict=True))


def _check_model(run: RunFolder, settings: Settings, parts: Sequence[str]) -> None:
    theirs, mine = run.identity().get("model", {}), identity(settings)["model"]
    _refuse_changes(
        run, settings, [d for part in parts for d in differences(theirs.get(part), mine[part], f"model.{part}")]
    )


def _check_codec(run: RunFolder, settings: Settings) -> None:
    """Checks that a run's codes are of the same codec; the network that drew them does not matter."""
    family = settings.family
    theirs, mine = (family.codec_causes(config) for config in (run.model_config(), settings.config))
    _refuse_changes(run, settings, differences(theirs, mine, "model.network"))


def _refuse_changes(run: RunFolder, settings: Settings, changed: Sequence[str]) -> None:
    assert settings.source is not None
    if changed:
        raise RunError(
            f"run {run.name} was made by another model ({'; '.join(changed[:2])}); "
            f"{settings.source.command} needs the same: leave out the model override"
        )
