"""What a run is made from besides its settings: words, prompts, vocabularies, weights. Imports no torch.

A run is identified by content. Words take the place of the file that they were read from before a run is made, so that
the run holds them. The other files decide the keys of its windows: two runs of the same settings are the same run if
and only if they have the same takes and the same codec.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.errors import ConfigError, LabelError, RunError
from jukebox_core.family import family_of
from jukebox_core.runtime.config import ENGINE_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.tokens.graph import Take
    from pipelines.settings.generate import Settings
    from stages.sampling.prompt import Excerpt, Recording

_BUILTIN = "builtin:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the tokens and the audio of a run follow from."""

    takes: tuple[Take, ...]  # the final take of each song
    codec: str  # the role of the codec
    weights: Mapping[str, str]  # identities by role
    vocabularies: Mapping[str, str] = field(default_factory=dict)  # sha256 by role
    recordings: Mapping[Excerpt, Recording] = field(default_factory=dict)  # the prompts

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all windows of the songs."""
        return frozenset(span.key for take in self.takes for track in take for span in track)

    @property
    def digest(self) -> str:
        """A hash of the content that decides tokens and audio."""
        return digest([self.weights[self.codec], lines(self.takes)])

    def made_from(self) -> dict[str, Any]:
        """Returns the manifest's record of prompts and vocabularies; weights have an entry of their own."""
        prompts = [
            {"path": excerpt.path, "samples": found.samples, "sha256": found.sha256}
            for excerpt, found in self.recordings.items()
        ]
        return {"prompts": prompts, "vocabularies": dict(self.vocabularies)}

    def differences(self, manifest: Mapping[str, Any]) -> list[str]:
        """Returns what differs from the content that a run was made from, in words; empty if nothing does.

        A run that was never planned was made from nothing yet.
        """
        if not manifest.get("takes"):
            return []
        theirs = manifest.get("weights", {})
        changed = _changed("weights", theirs, {role: each for role, each in self.weights.items() if role in theirs})
        if not changed and manifest["takes"] == lines(self.takes):
            return []
        made_from = manifest.get("made_from", {})
        changed += _changed("vocabularies", made_from.get("vocabularies", {}), self.vocabularies)
        mine = self.made_from()["prompts"]
        if "prompts" in made_from and [each["sha256"] for each in made_from["prompts"]] != [p["sha256"] for p in mine]:
            changed.append("the audio of the prompt")
        engine = manifest.get("versions", {}).get("engine", str(ENGINE_VERSION))
        if engine != str(ENGINE_VERSION):
            changed.append(f"engine version {engine}, here {ENGINE_VERSION}")
        return changed or ["the tokens that it begins with, or a file that was not recorded"]


def refuse_changed(name: str, manifest: Mapping[str, Any], contents: Contents) -> None:
    """Checks that the run `name` was made from `contents`, or from nothing yet.

    Raises:
        RunError: it was made from other files; the message names them.
    """
    changed = contents.differences(manifest)
    if changed:
        raise RunError(
            f"run {name} was made from other files ({'; '.join(changed)}); nothing is overwritten: bring back the "
            "files that it was made from, or make another run with another run.name"
        )


def other_settings(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Returns the differences between two identities, except those of paths: the content of files decides."""
    return differences(_without_paths(theirs), _without_paths(mine))


def _without_paths(identity: Mapping[str, Any]) -> dict[str, Any]:
    prompt, source = dict(identity.get("prompt", {})), identity.get("source")
    prompt.pop("files", None)
    model = {name: value for name, value in identity.get("model", {}).items() if name != "files"}
    kept = {**identity, "model": model, "prompt": prompt, "source": None if source is None else {**source, "run": None}}
    return with_words(kept)


def differences(old: object, new: object, at: str = "") -> list[str]:
    """Returns the differences between two trees of settings, as ``key: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [d for key in keys for d in differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)]
    return [] if old == new else [f"{at}: {old!r} -> {new!r}"]


def lines(takes: Sequence[Take]) -> list[list[list[str]]]:
    """Returns takes as text, as the manifest keeps them."""
    return [[track.lines() for track in take] for take in takes]


def with_contents(settings: Settings) -> Settings:
    """Returns settings of a run that need no lyrics file: with its words, and with absolute paths of prompts.

    A record of songs that names files has a method ``with_content()``, which returns it with their content instead.

    Raises:
        LabelError: a file cannot be read.
    """
    files = tuple(
        path if path.startswith(_BUILTIN) else str(Path(path).expanduser().absolute()) for path in settings.prompt.files
    )
    return replace(
        settings,
        song=_with_content(settings.song),
        songs=tuple(map(_with_content, settings.songs)),
        prompt=replace(settings.prompt, files=files),
    )


def _with_content(song: Any) -> Any:
    return song.with_content() if hasattr(song, "with_content") else song


def with_words(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's identity with the words of a lyrics file that it names, as runs of earlier versions do.

    Unchanged if the file cannot be read any more.
    """
    try:
        family = family_of(identity["model"])
        song: Any = build(family.song_type, identity["song"])
        songs: list[Any] = [build(family.song_overrides_type, each) for each in identity["songs"]]
        words = {"song": to_plain(_with_content(song)), "songs": [to_plain(_with_content(each)) for each in songs]}
    except (ConfigError, LabelError, LookupError):
        return dict(identity)
    return {**identity, **words}


def prompt_marks(files: Sequence[str]) -> list[str]:
    """Returns for each prompt the sha256 of its file, for the name of a run; its path if it is built in or absent."""
    return [path if path.startswith(_BUILTIN) else _mark(path) for path in files]


def _mark(path: str) -> str:
    try:
        status = Path(path).stat()
        return _digest(path, status.st_size, status.st_mtime_ns) if Path(path).is_file() else path
    except (OSError, ValueError):
        return path


@lru_cache(maxsize=64)
def _digest(path: str, size: int, modified_ns: int) -> str:  # noqa: ARG001  they distinguish versions of the file
    return digest_file(Path(path))


def _changed(group: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    roles = [role for role in old if role in new and old[role] != new[role]]
    return [f"{group}.{role}: {old[role][:12]} -> {new[role][:12]}" for role in roles]
