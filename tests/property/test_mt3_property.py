"""Random notes, ids and files: notes survive segments and MIDI files, and any sequence of ids decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.errors import NotesError, StoreError
from jukebox_core.families.mt3.config import EOS_ID, FrontEndConfig, VocabularyConfig
from jukebox_core.families.mt3.events.decoding import NoteDecoder, Segment, decode
from jukebox_core.families.mt3.events.encoding import encode, trim_overlaps
from jukebox_core.families.mt3.events.grammar import Grammar
from jukebox_core.families.mt3.events.segments import start_seconds
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.transcription.blocks import Row, from_block, to_block
from jukebox_core.notes.midi import midi_bytes
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes, parse_midi

FRONT_END = FrontEndConfig(segment_frames=128)
SECONDS = 4.0
FRAMES = int(SECONDS * FRONT_END.sample_rate / FRONT_END.hop)
VOCABULARIES = st.builds(
    VocabularyConfig,
    steps_per_second=st.sampled_from([50, 100]),
    max_shift_steps=st.sampled_from([40, 1000]),
    velocity_bins=st.sampled_from([1, 8, 127]),
    mode=st.sampled_from(["ties", "noties", "onsets"]),
)
MODELS = st.builds(
    VocabularyConfig,
    max_shift_steps=st.sampled_from([205, 1000]),
    velocity_bins=st.sampled_from([1, 127]),
    mode=st.sampled_from(["ties", "noties", "onsets"]),
)


@st.composite
def pieces(draw: st.DrawFn) -> list[Note]:
    """Notes on the grid of 10 ms, at least 20 ms long, without overlaps of one pitch and program."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 340),
                st.integers(2, 300),
                st.integers(21, 108),
                st.integers(1, 127),
                st.sampled_from([0, 4, 33, 56, 127]),
                st.booleans(),
            ),
            max_size=40,
        )
    )
    notes = [Note(at / 100, (at + length) / 100, *rest) for at, length, *rest in rows]
    return [note for note in trim_overlaps(notes) if note.end - note.start > 0.015]


@given(pieces())
@settings(max_examples=50)
def test_notes_survive_segments(notes: list[Note]) -> None:
    config = VocabularyConfig(velocity_bins=127)
    segments = encode(config, FRONT_END, notes, FRAMES)
    starts = [
        start_seconds(index * FRONT_END.segment_frames, FRONT_END, 100, parity=False) for index in range(len(segments))
    ]
    decoded = decode(config, map(Segment, starts, segments))
    assert (decoded.invalid, decoded.dropped) == (0, 0)
    kept = sorted(Note(n.start, n.start + 0.01 if n.is_drum else n.end, *n[2:]) for n in notes)
    kept = [note._replace(program=0) if note.is_drum else note for note in kept]
    found = sorted(decoded.notes)
    assert sorted(n[2:] for n in found) == sorted(n[2:] for n in kept)
    times = [sorted((n.pitch, n.program, n.is_drum, n.start, n.end) for n in each) for each in (found, kept)]
    np.testing.assert_allclose(np.array(times[0], float), np.array(times[1], float), atol=1e-9)


@given(VOCABULARIES, st.lists(st.lists(st.integers(-5, 2000), max_size=60), max_size=5))
@settings(max_examples=50)
def test_any_ids_decode(config: VocabularyConfig, segments: list[list[int]]) -> None:
    vocabulary = vocabulary_of(config)
    for read in (vocabulary.to_indices, vocabulary.to_indices_as_ports):
        given_ = [Segment(index * 2.048, read(ids)) for index, ids in enumerate(segments)]
        decoded = decode(config, given_)
        assert decoded.invalid + decoded.dropped <= sum(len(each.indices) for each in given_)
        assert all(0 <= note.start < note.end for note in decoded.notes)
        Notes.of(decoded.notes)


@given(MODELS, st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([None, (0,), (5, 127)]))
@settings(max_examples=20)
def test_constrained_ids_are_never_invalid(
    config: VocabularyConfig, seed: int, segments: int, programs: tuple[int, ...] | None
) -> None:
    """Whatever a model prefers: it chooses at random here, with a liking for notes."""
    random, vocabulary, decoder = np.random.default_rng(seed), vocabulary_of(config), NoteDecoder(config)
    for index in range(segments):
        start = start_seconds(index * 256, FrontEndConfig(), 100, parity=False)
        stop = start_seconds((index + 1) * 256, FrontEndConfig(), 100, parity=False)
        decoder.begin(start, stop)
        grammar = Grammar(decoder, vocabulary.ids + 100, round((stop - start) * 100), programs)
        for _ in range(80):
            allowed = np.flatnonzero(grammar.allowed_ids())
            chosen = int(random.choice(allowed[allowed != EOS_ID] if len(allowed) > 1 else allowed))
            if chosen == EOS_ID or random.random() < 0.01:
                break
            grammar.feed_id(chosen)
    decoded = decoder.finish()
    assert (decoded.invalid, decoded.dropped) == (0, 0)
    if programs is not None and config.mode != "onsets":  # onsets have no program
        assert {note.program for note in decoded.notes if not note.is_drum} <= set(programs)


@given(pieces(), st.integers(1, 40))
@settings(max_examples=20)
def test_notes_survive_midi_with_many_programs(notes: list[Note], programs: int) -> None:
    many = [note._replace(program=index % programs) for index, note in enumerate(notes)]
    expected = Notes.of(note._replace(program=0) if note.is_drum else note for note in trim_overlaps(many))
    back = parse_midi(midi_bytes(expected), "x")
    keys = [sorted((n.pitch, n.program, n.is_drum, n.velocity) for n in each) for each in (expected, back)]
    assert keys[0] == keys[1]
    starts = [sorted((n.pitch, n.program, n.is_drum, n.start) for n in each) for each in (expected, back)]
    np.testing.assert_allclose(np.array(starts[0], float), np.array(starts[1], float), atol=0.00114)


@st.composite
def long_pieces(draw: st.DrawFn) -> list[Note]:
    """Notes at any time of ten minutes, of 1 to 40 instruments and drums, without overlaps of a pitch and program."""
    programs = draw(st.lists(st.integers(0, 127), min_size=1, max_size=40, unique=True))
    rows = draw(
        st.lists(
            st.tuples(
                st.floats(0, 600), st.floats(0.01, 5), st.integers(0, 127), st.integers(1, 127),
                st.sampled_from(programs), st.booleans(),
            ),
            min_size=len(programs), max_size=2 * len(programs),
        )
    )  # fmt: skip
    rows = [(*row[:4], program, False) for row, program in zip(rows, programs, strict=False)] + rows[len(programs) :]
    notes = [Note(at, at + length, *rest) for at, length, *rest in rows]
    return [note for note in trim_overlaps(notes) if note.end - note.start >= 0.01]


@given(long_pieces())
@settings(max_examples=30)
def test_ten_minutes_of_many_instruments_survive_midi(notes: list[Note]) -> None:
    """Onsets within 1.14 ms, and each note's pitch, loudness, program and drum exactly."""
    expected = Notes.of(note._replace(program=0) if note.is_drum else note for note in notes)
    back = parse_midi(midi_bytes(expected), "x")
    kinds, times = (
        [sorted(part(note) for note in each) for each in (expected, back)]
        for part in (
            lambda n: (n.pitch, n.program, n.is_drum, n.velocity),
            lambda n: (n.pitch, n.program, n.is_drum, n.start, n.end),
        )
    )
    assert kinds[0] == kinds[1]
    assert expected.programs == back.programs
    for found, right in zip(times[1], times[0], strict=True):
        assert found[:3] == right[:3]
        assert abs(found[3] - right[3]) <= 0.00114
        assert abs(found[4] - right[4]) <= 0.0023 + 1e-9  # a note lasts a tick at least


@given(pieces())
def test_notes_survive_json(notes: list[Note]) -> None:
    whole = Notes.of(notes, invalid_events=3, seconds=4.5)
    assert Notes.from_json(whole.to_json()) == whole


@given(st.binary(max_size=200), st.integers(0, 80), st.integers(0, 255))
@settings(max_examples=50)
def test_damaged_midi_is_refused_or_read(tail: bytes, at: int, value: int) -> None:
    content = bytearray(midi_bytes(Notes.of([Note(0.1, 0.5, 60), Note(0.2, 0.3, 36, 90, 0, is_drum=True)])) + tail)
    content[at % len(content)] = value
    try:
        parse_midi(bytes(content), "x.mid")
    except NotesError as error:
        assert "x.mid" in str(error) or "a note" in str(error)  # noqa: PT017


@given(st.lists(st.tuples(st.lists(st.integers(0, 1500), max_size=20), st.booleans()), max_size=20))
def test_rows_survive_blocks(rows: list[tuple[list[int], bool]]) -> None:
    assert from_block(to_block(Row(*row) for row in rows)) == [Row(*row) for row in rows]
    if rows:
        with pytest.raises(StoreError, match="malformed"):
            from_block(np.append(to_block(Row(*row) for row in rows), np.int32(1)))
