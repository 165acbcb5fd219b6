"""Artist and genre names, and their ids in the priors (docs/upstream.md, Labels). Imports no torch.

A vocabulary is a pair of text files with one ``name;id`` a line; several names may share an id, and id 0 is 'unknown'.
Two kinds exist, with different normalisation of names and different genres:

    v2   names are lower case with ``_`` for everything but letters and digits; a genre is a list of known words
    v3   names are lower case; a genre is one known name
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, get_args

from jukebox_core.base.text_files import TABLE_BYTES, UnreadableError, read_text
from jukebox_core.errors import ConfigError, LabelError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

VocabularyKind: TypeAlias = Literal["v2", "v3"]

UNKNOWN = "unknown"
UNKNOWN_ID = 0
_FEW_NAMES = 12  # a table of at most so many names is listed in full in errors


@dataclass(frozen=True, slots=True)
class NameTable:
    """Names and their ids, from one file."""

    ids: Mapping[str, int]
    entries: int  # lines of the file; of a repeated name the last line counts

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, int]]) -> Self:
        """Returns the table of these (name, id) pairs."""
        listed = list(pairs)
        return cls(dict(listed), len(listed))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file of ``name;id`` lines, in UTF-8.

        Raises:
            LabelError: the file is missing, empty, or not of that form.
        """
        try:
            text = read_text(path, TABLE_BYTES)
        except UnreadableError as error:
            raise LabelError(f"vocabulary {path} cannot be read ({error}); fetch the model's files again") from error
        # Not splitlines(): some names contain characters that it treats as line breaks.
        table = cls.from_pairs(
            _parse(line, f"{path}:{number}") for number, line in enumerate(text.split("\n"), 1) if line
        )
        if not table.entries:
            raise LabelError(f"vocabulary {path} is empty; it must list one name;id a line; fetch the file again")
        return table


def _parse(line: str, where: str) -> tuple[str, int]:
    name, separator, number = line.rpartition(";")
    if not separator or not re.fullmatch("[0-9]+", number):
        raise LabelError(f"{where} is {line[:60]!r}; each line must be name;id; fetch the file again")
    return name, int(number)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The artists and genres of one kind of prior."""

    kind: VocabularyKind
    artists: NameTable
    genres: NameTable

    @classmethod
    def load(cls, kind: VocabularyKind, *, artists: Path, genres: Path) -> Self:
        """Reads both files; LabelError as `NameTable.load`."""
        return cls(kind, NameTable.load(artists), NameTable.load(genres))

    def normalise(self, name: str) -> str:
        """Returns `name` normalised for this kind of vocabulary."""
        lower = name.lower()
        return lower if self.kind == "v3" else re.sub("[^a-z0-9]+", "_", lower).strip("_")

    def artist_id(self, artist: str, *, strict: bool = True) -> int:
        """Returns the id of an artist; 0 for 'unknown' and, unless `strict`, for an unlisted name.

        Raises:
            LabelError: `strict`, and the artist is not listed.
        """
        name = self.normalise(artist)
        if strict and not _known(name, self.artists):
            raise LabelError(
                f"artist {artist!r} is not among the {self.artists.entries:,} {self.kind} artists"
                f"{_advice(name, self.artists)}",
                kind="artists",
                name=artist,
            )
        return self.artists.ids.get(name, UNKNOWN_ID)

    def genre_ids(self, genre: str, *, max_words: int, strict: bool = True) -> tuple[int, ...]:
        """Returns the ids of a genre: one (v3), or one for each word (v2); an unlisted one is 0 unless `strict`.

        Raises:
            LabelError: more than `max_words` words, even if not `strict`; or `strict`, and one is not listed.
        """
        name = self.normalise(genre)
        words = self._words(name)
        if len(words) > max_words:
            named = ", ".join(map(repr, words))
            raise LabelError(
                f"genre {genre!r} has {len(words)} words ({named}); a {self.kind} genre has at most {max_words}; "
                "leave some out"
            )
        missing = self.unlisted_genres(genre)
        if strict and missing:
            of_genre = f" (in {genre!r})" if len(words) > 1 else ""
            noun = "genres" if self.kind == "v3" else "genre words"
            raise LabelError(
                f"genre {', '.join(map(repr, missing)) if of_genre else repr(genre)}{of_genre} is not among the "
                f"{self.genres.entries:,} {self.kind} {noun}{_advice(missing[0], self.genres)}",
                kind="genres",
                name=missing[0],
            )
        return tuple(self.genres.ids.get(word, UNKNOWN_ID) for word in words)

    def unlisted_artists(self, artist: str) -> list[str]:
        """Returns the artist's name, normalised, if it is not listed."""
        name = self.normalise(artist)
        return [] if _known(name, self.artists) else [name]

    def unlisted_genres(self, genre: str) -> list[str]:
        """Returns those of a genre's names (v3: itself, v2: its words) that are not listed, normalised."""
        return [word for word in self._words(self.normalise(genre)) if not _known(word, self.genres)]

    def _words(self, name: str) -> list[str]:
        return [name] if self.kind == "v3" else name.split("_")


def _known(name: str, table: NameTable) -> bool:
    # v2 lists the empty name (as unknown), but a name that is empty after normalisation is a mistake of the user.
    return name == UNKNOWN or (name != "" and name in table.ids)


def _advice(name: str, table: NameTable) -> str:
    names = [each for each in table.ids if each not in ("", UNKNOWN)]
    listed = ", ".join(map(repr, names)) if len(names) <= _FEW_NAMES else "one of them"
    return did_you_mean(name, [*names, UNKNOWN]) or f"; choose {listed}, or {UNKNOWN!r}"


def load_vocabularies(paths: Mapping[str, Path]) -> dict[VocabularyKind, Vocabulary]:
    """Reads a model's vocabularies.

    Args:
        paths: files by role: ``artists_v2``, ``genres_v2``, ``artists_v3``, ``genres_v3``.

    Returns:
        The vocabularies by kind, of the given kinds.

    Raises:
        ConfigError: a role is unknown, or only one of a pair is given.
        LabelError: as `NameTable.load`.
    """
    kinds: tuple[VocabularyKind, ...] = get_args(VocabularyKind)
    roles = {kind: (f"artists_{kind}", f"genres_{kind}") for kind in kinds}
    known = [role for pair in roles.values() for role in pair]
    for role in paths:
        if role not in known:
            raise ConfigError(f"vocabulary {role!r} is not one of {', '.join(known)}{did_you_mean(role, known)}")
    vocabularies: dict[VocabularyKind, Vocabulary] = {}
    for kind, pair in roles.items():
        named = [role for role in pair if role in paths]
        if len(named) == 1:
            raise ConfigError(f"vocabularies name {named[0]} alone; name both {' and '.join(pair)}")
        if named:
            vocabularies[kind] = Vocabulary.load(kind, artists=paths[pair[0]], genres=paths[pair[1]])
    return vocabularies
