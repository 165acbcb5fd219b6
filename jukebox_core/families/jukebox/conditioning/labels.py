"""Labels that condition a prior, as the row of numbers it reads (docs/upstream.md, Labels and Windows).

Lengths and offsets are in audio samples. Imports no torch, so that labels are checked before a model is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.lyrics import alphabet, lyric_window
from jukebox_core.families.jukebox.conditioning.vocabulary import UNKNOWN_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.families.jukebox.conditioning.vocabulary import Vocabulary, VocabularyKind
    from jukebox_core.families.jukebox.config import JukeboxConfig, LabelConfig, PriorConfig

NO_GENRE = -1  # padding of the genre columns


@dataclass(frozen=True, kw_only=True, slots=True)
class SongLabels:
    """Labels of a song for one prior."""

    artist_id: int
    genre_ids: tuple[int, ...]
    lyric_tokens: tuple[int, ...]  # of the whole song; empty for a prior without lyrics
    total_length: int  # samples
    offset: int  # samples; where in the song the music starts


class WindowLabels(NamedTuple):
    """Labels of a window for one prior."""

    row: tuple[int, ...]
    lyric_indices: tuple[int, ...]  # position in the song's lyrics of each lyric column, -1 for padding


def label_song(
    vocabularies: Mapping[VocabularyKind, Vocabulary],
    *,
    artist: str,
    genre: str,
    lyrics: str,
    total_length: int,
    offset: int,
    config: PriorConfig,
    strict: bool = True,
) -> SongLabels:
    """Returns the labels of a song for the prior of `config`; lengths are checked by `lengths.song_times`.

    Args:
        vocabularies: by kind; the one that the prior was trained with is required.
        artist: a name, or 'unknown'.
        genre: a name, or 'unknown'; for a v2 prior, known words.
        lyrics: of the whole song, as plain text; ignored by a prior without lyrics.
        total_length: length of the whole song, in samples.
        offset: where in the song the music starts, in samples.
        config: the prior.
        strict: whether an unlisted artist or genre is an error; otherwise it counts as unknown, as in an upsampler
            whose vocabulary lacks names of the top prior's.

    Raises:
        ConfigError: the prior's vocabulary is missing.
        LabelError: a name is not listed, no character of the lyrics is known, or the offset is outside the song.
    """
    if not 0 <= offset < total_length:
        raise LabelError(
            f"offset is {offset} samples; it must be from 0 to below the song's total length, {total_length}; "
            "start earlier or make the song longer"
        )
    artist_id: int = UNKNOWN_ID
    genre_ids: tuple[int, ...] = ()
    if config.labels is not None:
        artist_id, genre_ids = _name_ids(vocabularies, artist, genre, config.labels, strict=strict)
    return SongLabels(
        artist_id=artist_id,
        genre_ids=genre_ids,
        lyric_tokens=() if config.lyrics is None else alphabet(config.lyrics.characters).tokens(lyrics),
        total_length=total_length,
        offset=offset,
    )


def label_levels(
    vocabularies: Mapping[VocabularyKind, Vocabulary],
    config: JukeboxConfig,
    *,
    artist: str,
    genre: str,
    lyrics: str,
    total_length: int,
    offset: int,
) -> tuple[SongLabels, ...]:
    """Returns the labels of a song for every prior of a model, bottom level first; arguments as `label_song`.

    An upsampler whose vocabulary differs from the top prior's treats unlisted names as unknown.

    Raises:
        ConfigError, LabelError: as `label_song`.
    """
    top = config.priors[config.top].labels
    return tuple(
        label_song(
            vocabularies,
            artist=artist,
            genre=genre,
            lyrics=lyrics,
            total_length=total_length,
            offset=offset,
            config=prior,
            strict=prior.labels is None or top is None or prior.labels.vocabulary == top.vocabulary,
        )
        for prior in config.priors
    )


def _name_ids(
    vocabularies: Mapping[VocabularyKind, Vocabulary], artist: str, genre: str, config: LabelConfig, *, strict: bool
) -> tuple[int, tuple[int, ...]]:
    vocabulary = vocabularies.get(config.vocabulary)
    if vocabulary is None:
        raise ConfigError(
            f"a prior needs the {config.vocabulary} vocabulary, but the model has {', '.join(vocabularies) or 'none'}; "
            f"add artists_{config.vocabulary} and genres_{config.vocabulary} to the model's vocabularies"
        )
    artist_id = vocabulary.artist_id(artist, strict=strict)
    genre_ids = vocabulary.genre_ids(genre, max_words=config.max_genre_words, strict=strict)
    _check_rows("artist", artist, (artist_id,), config.artists)
    _check_rows("genre", genre, genre_ids, config.genres)
    return artist_id, genre_ids


def _check_rows(noun: str, name: str, ids: tuple[int, ...], rows: int) -> None:
    if max(ids) >= rows:
        raise LabelError(
            f"{noun} {name!r} has id {max(ids)}, but the prior knows ids below {rows}; "
            "its vocabulary belongs to another model; give the one it was trained with"
        )


def window_row(labels: SongLabels, config: PriorConfig, *, sample_length: int, start: int) -> WindowLabels:
    """Returns the labels of one window.

    Args:
        labels: of the song, for the same prior.
        config: the prior.
        sample_length: length of a full window of the prior's level, in samples, even if this window is shorter.
        start: index of the window's first token, counted from the start of the music.

    Returns:
        The row: total length, offset of the window, `sample_length`, artist, genres padded with -1, lyric tokens;
        without artist and genres for a prior without labels. And the position of each lyric token in the lyrics.

    Raises:
        ConfigError: `sample_length` is not a multiple of the context.
        LabelError: the window starts outside the song, and the lyrics are at least as long as the window's.
    """
    hop, rest = divmod(sample_length, config.context)
    if rest or hop < 1:
        raise ConfigError(
            f"sample_length {sample_length} is not a full window of {config.context} tokens; "
            "give the context times the level's samples per token"
        )
    offset = labels.offset + start * hop
    row = [labels.total_length, offset, sample_length]
    if config.labels is not None:
        free = config.labels.max_genre_words - len(labels.genre_ids)
        row += [labels.artist_id, *labels.genre_ids, *[NO_GENRE] * free]
    if config.lyrics is None:
        return WindowLabels(tuple(row), ())
    seen = lyric_window(
        labels.lyric_tokens,
        config.lyrics.tokens,
        total_length=labels.total_length,
        offset=offset,
        duration=sample_length,
    )
    return WindowLabels((*row, *seen.tokens), seen.indices)
