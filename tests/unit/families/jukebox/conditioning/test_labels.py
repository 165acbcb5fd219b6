import dataclasses
import subprocess
import sys

import pytest

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.labels import NO_GENRE, SongLabels, label_song, window_row
from jukebox_core.families.jukebox.conditioning.vocabulary import NameTable, Vocabulary, load_vocabularies
from jukebox_core.families.jukebox.config import (
    LabelConfig,
    LyricsConfig,
    PriorConfig,
    TimingConfig,
    TransformerConfig,
)

V2 = Vocabulary(
    "v2",
    NameTable.from_pairs([("unknown", 0), ("various", 0), ("", 0), ("the_beatles", 1), ("bj_rk", 2)]),
    NameTable.from_pairs([("unknown", 0), ("blues", 1), ("rock", 2), ("heavy", 3), ("metal", 4)]),
)
V3 = Vocabulary(
    "v3",
    NameTable.from_pairs([("the beatles", 1), ("björk", 2), ("gabriel faur ", 3)]),
    NameTable.from_pairs([("blues rock", 1), ("rock", 2)]),
)
BOTH = {"v2": V2, "v3": V3}
TRANSFORMER = TransformerConfig(width=8, depth=1, heads=1, attention_order=0)
TIMING = TimingConfig(bins=4, min_seconds=1.5, max_seconds=4.0)
TOP = PriorConfig(
    level=2,
    context=16,
    transformer=TRANSFORMER,
    labels=LabelConfig(vocabulary="v3", artists=4, genres=3, max_genre_words=1),
    timing=TIMING,
    lyrics=LyricsConfig(tokens=4, characters=79),
)
UPSAMPLER = PriorConfig(
    level=0,
    context=16,
    transformer=TRANSFORMER,
    labels=LabelConfig(vocabulary="v2", artists=3, genres=5, max_genre_words=3),
)


def song(config=TOP, vocabularies=BOTH, **changes):
    settings = {"artist": "The Beatles", "genre": "Blues Rock", "lyrics": "abcdefgh", "total_length": 1000, "offset": 0}
    return label_song(vocabularies, **settings | changes, config=config)


class TestVocabulary:
    def test_each_kind_normalises_names_differently(self):
        assert V2.normalise("  The   Beatles! ") == "the_beatles"
        assert V2.normalise("Björk") == "bj_rk"
        assert V3.normalise("Björk") == "björk"

    @pytest.mark.parametrize("vocabulary", [V2, V3])
    def test_unknown_is_always_allowed(self, vocabulary):
        assert vocabulary.artist_id("Unknown") == 0
        assert vocabulary.genre_ids("unknown", max_words=1) == (0,)

    def test_a_v2_genre_is_words_with_repeats_kept_and_a_v3_genre_is_one_name(self):
        assert V2.genre_ids("Heavy-heavy metal", max_words=3) == (3, 3, 4)
        assert V3.genre_ids("Blues Rock", max_words=1) == (1,)

    def test_a_near_miss_is_named(self):
        with pytest.raises(LabelError) as caught:
            V3.artist_id("Teh Beatles")
        assert str(caught.value) == "artist 'Teh Beatles' is not among the 3 v3 artists; closest: 'the beatles'"

    def test_without_a_near_miss_the_error_lists_unknown_and_a_short_table(self):
        with pytest.raises(LabelError, match="not among the 2 v3 genres; choose 'blues rock', 'rock', or 'unknown'"):
            V3.genre_ids("zzz", max_words=1)
        many = Vocabulary("v3", V3.artists, NameTable.from_pairs([(f"genre {n}", n) for n in range(1, 500)]))
        with pytest.raises(LabelError, match="'zzz' is not among the 499 v3 genres; choose one of them, or 'unknown'"):
            many.genre_ids("zzz", max_words=1)

    @pytest.mark.parametrize("name", ["", "周杰倫", "  "])
    def test_a_name_that_is_empty_after_normalisation_is_an_error(self, name):
        with pytest.raises(
            LabelError, match="is not among the 5 v2 artists; choose 'various', 'the_beatles', 'bj_rk', or 'unknown'"
        ):
            V2.artist_id(name)
        with pytest.raises(LabelError):
            V2.genre_ids(name, max_words=3)
        assert V2.artist_id(name, strict=False) == 0
        assert V2.genre_ids(name, max_words=3, strict=False) == (0,)

    def test_the_unknown_words_of_a_genre_are_named(self):
        with pytest.raises(LabelError) as caught:
            V2.genre_ids("Hevy metal qqq", max_words=3)
        assert str(caught.value) == (
            "genre 'hevy', 'qqq' (in 'Hevy metal qqq') is not among the 5 v2 genre words; closest: 'heavy'"
        )
        assert V2.genre_ids("Hevy metal qqq", max_words=3, strict=False) == (0, 4, 0)

    @pytest.mark.parametrize("strict", [True, False])
    def test_too_many_genre_words_are_named(self, strict):
        with pytest.raises(LabelError, match=r"has 2 words \('heavy', 'metal'\); a v2 genre has at most 1"):
            V2.genre_ids("heavy metal", max_words=1, strict=strict)


class TestFiles:
    def write(self, folder, kind="v3", artists="a;0\nb;1\n", genres="g;1\n"):
        paths = {f"artists_{kind}": folder / "artists", f"genres_{kind}": folder / "genres"}
        for path, text in zip(paths.values(), (artists, genres), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths

    def test_names_keep_semicolons_spaces_and_strange_line_characters(self, tmp_path):
        paths = self.write(tmp_path, artists="a;b;7\nfaur ;8\nx\u2028y;9\n;0\ntwice;1\ntwice;2\n")
        table = load_vocabularies(paths)["v3"].artists
        assert table.ids == {"a;b": 7, "faur ": 8, "x\u2028y": 9, "": 0, "twice": 2}
        assert table.entries == 6

    @pytest.mark.parametrize("line", ["<html>", "name;", "name;-1", "name;x", "name;²"])
    def test_a_malformed_line_is_named_with_its_number(self, tmp_path, line):
        paths = self.write(tmp_path, genres=f"rock;1\n{line}\n")
        with pytest.raises(LabelError, match=r"genres:2 is '.*'; each line must be name;id; fetch the file again"):
            load_vocabularies(paths)

    def test_missing_binary_and_empty_files_are_errors(self, tmp_path):
        paths = self.write(tmp_path)
        for spoil in (lambda path: path.write_bytes(b"\xff\xfe"), lambda path: path.write_text("")):
            spoil(paths["artists_v3"])
            with pytest.raises(LabelError, match="artists"):
                load_vocabularies(paths)
        paths["artists_v3"].unlink()
        with pytest.raises(LabelError, match=r"cannot be read .*fetch the model's files again"):
            load_vocabularies(paths)

    def test_roles_come_in_pairs(self, tmp_path):
        paths = self.write(tmp_path, "v2")
        assert list(load_vocabularies(paths)) == ["v2"]
        del paths["genres_v2"]
        with pytest.raises(ConfigError, match="name artists_v2 alone; name both artists_v2 and genres_v2"):
            load_vocabularies(paths)
        with pytest.raises(ConfigError, match=r"'artist_v2' is not one of .*; closest: 'artists_v2'"):
            load_vocabularies({"artist_v2": tmp_path})


class TestSong:
    def test_each_prior_has_its_own_labels(self):
        top = song()
        assert (top.artist_id, top.genre_ids) == (1, (1,))
        assert top.lyric_tokens == tuple(range(27, 35))
        below = song(UPSAMPLER)
        assert (below.artist_id, below.genre_ids) == (1, (1, 2))
        assert below.lyric_tokens == ()

    def test_names_are_checked_unless_not_strict(self):
        with pytest.raises(LabelError, match="'Nobody'"):
            song(artist="Nobody")
        assert song(artist="Nobody", strict=False).artist_id == 0

    def test_lyrics_without_a_known_character_are_an_error_only_where_lyrics_are_read(self):
        with pytest.raises(LabelError, match="lyrics '###'"):
            song(lyrics="###")
        assert song(UPSAMPLER, lyrics="###").lyric_tokens == ()

    @pytest.mark.parametrize("offset", [-1, 1000])
    def test_the_music_starts_within_the_song(self, offset):
        with pytest.raises(LabelError, match=rf"offset is {offset} samples; .*total length, 1000; start earlier"):
            song(offset=offset)

    def test_the_vocabulary_is_required_and_must_fit_the_tables(self):
        with pytest.raises(
            ConfigError, match="needs the v3 vocabulary, but the model has v2; add artists_v3 and genres"
        ):
            song(vocabularies={"v2": V2})
        small = dataclasses.replace(TOP, labels=dataclasses.replace(TOP.labels, artists=1))
        with pytest.raises(LabelError, match=r"has id 1, but the prior knows ids below 1; .*another model"):
            song(small)
        small = dataclasses.replace(TOP, labels=dataclasses.replace(TOP.labels, genres=1))
        with pytest.raises(LabelError, match="genre 'Blues Rock' has id 1"):
            song(small)


class TestWindowRow:
    def test_columns(self):
        labels = song(offset=30, lyrics="abc")
        row, indices = window_row(labels, TOP, sample_length=16 * 8, start=5)
        assert row == (1000, 30 + 5 * 8, 128, 1, 1, 0, 27, 28, 29)
        assert indices == (-1, 0, 1, 2)

    def test_genre_columns_are_padded_and_a_prior_without_lyrics_has_none(self):
        row, indices = window_row(song(UPSAMPLER), UPSAMPLER, sample_length=16 * 2, start=3)
        assert row == (1000, 6, 32, 1, 1, 2, NO_GENRE)
        assert indices == ()

    def test_a_prior_without_labels_has_the_times_alone(self):
        plain = dataclasses.replace(UPSAMPLER, labels=None)
        assert window_row(song(plain, vocabularies={}), plain, sample_length=16, start=0).row == (1000, 0, 16)

    def test_lyrics_move_on_with_the_windows(self):
        labels = song(lyrics="abcdefgh" * 10)
        firsts = [
            window_row(labels, TOP, sample_length=128, start=start).lyric_indices[0] for start in range(0, 125, 8)
        ]
        assert firsts == sorted(firsts)
        assert firsts[0] < firsts[-1] == 76

    @pytest.mark.parametrize("sample_length", [0, 17])
    def test_a_length_that_is_no_whole_window_is_an_error(self, sample_length):
        labels = SongLabels(artist_id=0, genre_ids=(0,), lyric_tokens=(), total_length=9, offset=0)
        with pytest.raises(ConfigError, match=f"sample_length {sample_length} is not a full window of 16 tokens"):
            window_row(labels, TOP, sample_length=sample_length, start=0)


def test_labels_are_known_before_torch_is_loaded():
    code = "import sys, jukebox_core.families.jukebox.conditioning.labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
