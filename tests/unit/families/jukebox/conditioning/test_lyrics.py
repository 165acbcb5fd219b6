import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.lyrics import (
    ALPHABET_V2,
    ALPHABET_V3,
    PADDING,
    PADDING_INDEX,
    alphabet,
    lyric_window,
)

ALPHABETS = [ALPHABET_V2, ALPHABET_V3]


def window(count, size=4, *, total_length=100, offset=0, duration=10, single_precision=True):
    return lyric_window(
        range(1, count + 1),
        size,
        total_length=total_length,
        offset=offset,
        duration=duration,
        single_precision=single_precision,
    )


def test_sizes_count_the_padding():
    assert alphabet(80) is ALPHABET_V2
    assert alphabet(79) is ALPHABET_V3
    with pytest.raises(ConfigError, match=r"81 characters; choose 80 \(v2\) or 79 \(v3\)"):
        alphabet(81)


def test_only_v2_has_a_plus():
    assert ALPHABET_V2.clean("1+1=2") == "1+12"
    assert ALPHABET_V3.clean("1+1=2") == "112"


def test_cleaning_transliterates_then_breaks_lines_then_drops():
    assert ALPHABET_V3.clean("Ñandú\\é*\r\n\uff3c") == "Nandu\ne\n\n"


def test_half_of_a_surrogate_pair_is_dropped_without_a_warning():
    assert ALPHABET_V3.clean("a\udcffb") == "ab"


@pytest.mark.parametrize("letters", ALPHABETS)
@given(text=st.text(max_size=60))
def test_tokens_are_known_and_give_the_cleaned_text_back(letters, text):
    clean = letters.clean(text)
    assert letters.clean(clean) == clean
    tokens = letters.tokens(clean)
    assert len(tokens) == len(clean)
    assert all(0 < token < letters.size for token in tokens)
    assert letters.text(tokens) == clean


def test_padding_prints_as_nothing():
    assert ALPHABET_V3.text([PADDING, 1, PADDING, 27]) == "Aa"


def test_no_lyrics_are_fine_but_lyrics_without_a_known_character_are_not():
    assert ALPHABET_V3.tokens("") == ()
    with pytest.raises(LabelError, match=r"lyrics '#{40}' hold no character .*leave them empty"):
        ALPHABET_V3.tokens("#" * 50)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_short_lyrics_are_padded_on_the_left(count):
    seen = window(count, offset=10**9)  # where the window lies does not matter
    assert seen.tokens == (PADDING,) * (4 - count) + tuple(range(1, count + 1))
    assert seen.indices == (PADDING_INDEX,) * (4 - count) + tuple(range(count))


@pytest.mark.parametrize(("offset", "first"), [(0, 0), (5, 0), (45, 8), (50, 9), (99, 16)])
def test_long_lyrics_move_with_the_window_and_stay_inside(offset, first):
    assert window(20, offset=offset).indices == tuple(range(first, first + 4))


@pytest.mark.parametrize("offset", [-1, 100, 101])
def test_a_window_outside_the_song_is_an_error_where_lyrics_fill_it(offset):
    with pytest.raises(LabelError, match=rf"offset {offset} is outside the song of 100 samples; choose .* 0 to 99"):
        window(4, offset=offset)


@given(
    count=st.integers(0, 4000),
    size=st.integers(1, 512),
    total_length=st.integers(1, 2**25),
    where=st.floats(0, 1, exclude_max=True),
    duration=st.integers(1, 2**20),
)
def test_a_window_is_a_contiguous_part_and_both_precisions_agree_to_one(count, size, total_length, where, duration):
    offset = int(where * total_length)
    firsts = []
    for single in (True, False):
        seen = window(count, size, total_length=total_length, offset=offset, duration=duration, single_precision=single)
        assert len(seen.tokens) == len(seen.indices) == size
        kept = [index for index in seen.indices if index != PADDING_INDEX]
        assert kept == list(range(kept[0], kept[0] + min(count, size))) if kept else count == 0
        assert [token for token in seen.tokens if token != PADDING] == [index + 1 for index in kept]
        firsts.append(seen.indices[0])
    assert abs(firsts[0] - firsts[1]) <= 1
