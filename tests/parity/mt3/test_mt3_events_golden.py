"""Events and notes of MT3 against the golden vectors `codec`, `encode` and `decode`: every number is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import NotesError
from jukebox_core.families.mt3.config import FrontEndConfig, VocabularyConfig
from jukebox_core.families.mt3.events.decoding import Segment, decode
from jukebox_core.families.mt3.events.encoding import (
    encode,
    trim_overlaps,
    with_granularity,
    with_shifts,
    without_repeats,
)
from jukebox_core.families.mt3.events.segments import start_seconds, start_step
from jukebox_core.families.mt3.events.vocabulary import Vocabulary, vocabulary_of
from tests.helpers.models.mt3 import TIME, bundles, load, notes_of, vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def test_vocabularies(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "tables.json"):
        for data in load(folder / "tables.json").values():
            known = Vocabulary(vocabulary(data))
            assert (len(known), known.ids, known.tie) == (
                data["num_classes"],
                data["base_vocab_size"],
                data["tie_token"],
            )
            for kind, limits in data["ranges"].items():
                assert known.range(kind) == range(limits["first_id"], limits["last_id"] + 1)
            assert [known.velocity_bin(each) for each in range(128)] == data["velocity_to_bin"]
            assert list(map(known.velocity, range(len(data["bin_to_velocity"])))) == data["bin_to_velocity"]
            assert [[index, *(known.event(index) or ())] for index, _, _ in data["decode_examples"]] == data[
                "decode_examples"
            ]
            assert [known.event(index) for index in data["invalid_indices"]] == [None] * len(data["invalid_indices"])


def test_ids_of_a_model_become_events_and_upstream_loses_some(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "tables.json"):
        for data in load(folder / "tables.json").values():
            known = Vocabulary(vocabulary(data))
            for case in data["id_decoding"]:
                assert known.to_indices(case["ids"]) == case["after_trim"]
                assert known.to_indices_as_ports(case["ids"]) == case["port_tokens"]


def test_shifts_repeats_and_granularity(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "shifts.json"):
        cases, tables = load(folder / "shifts.json"), load(folder / "tables.json")
        known = {name: Vocabulary(vocabulary(data)) for name, data in tables.items()}
        for case in cases["rle"]:
            now, steps, shifts = 0, [], known[case["codec"]].range("shift")
            for index in case["events"]:
                if index in shifts:
                    now += index - shifts.start
                else:
                    steps.append((now, [index]))
            assert with_shifts(known[case["codec"]], steps) == case["out"]
        for case in cases["redundant"]:
            assert without_repeats(known[case["codec"]], case["events"]) == case["out"]
        for case in cases["granularity"]:
            config = vocabulary(tables[case["codec"]], granularity=case["type"])
            assert with_granularity(vocabulary_of(config), case["events"]) == case["out"]


def test_segments_begin_where_upstream_begins_them_and_where_they_should(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "segment_start_times.json"):
        data, front_end = load(folder / "segment_start_times.json"), FrontEndConfig()
        frames = [index * front_end.segment_frames for index in range(data["segments"])]
        assert [start_step(frame, front_end, 100) for frame in frames] == data["exact_floor_steps"]
        upstream = [start_seconds(frame, front_end, 100, parity=True) for frame in frames]
        assert upstream == data["start_time_port_float64"]
        assert upstream != [start_seconds(frame, front_end, 100, parity=False) for frame in frames]


def test_notes_become_events(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "cases.json", "encode"):
        for name, case in load(folder / "cases.json").items():
            config = vocabulary(case["vocab"], mode=case["mode"], granularity=case["granularity"])
            front_end = FrontEndConfig(segment_frames=case["segment_frames"])
            notes = notes_of(case["notes"])
            if case["trim_overlaps"]:
                notes = trim_overlaps(notes)
                assert notes == notes_of(case["trimmed_notes"]), name
            found = encode(config, front_end, notes, case["num_frames"], parity=True)
            for indices, segment in zip(found, case["segments"], strict=True):
                if "error" in segment:  # upstream fails without notes (D5)
                    assert indices == [vocabulary_of(config).tie], name
                    continue
                assert indices == segment["tokens"], name
                assert vocabulary_of(config).to_ids(indices) == segment["ids"], name
                at = start_seconds(segment["start_frame"], front_end, config.steps_per_second, parity=True)
                assert at == pytest.approx(segment["start_time"], abs=TIME), name


def test_after_the_last_event_a_segment_names_nothing_that_has_ended(golden_mt3: Path) -> None:
    """Where upstream does (D6), decoding its segments counts invalid events, and ours none."""
    fewer = 0
    for folder in bundles(golden_mt3, "cases.json", "encode"):
        for name, case in load(folder / "cases.json").items():
            if case["mode"] != "ties" or any("error" in each for each in case["segments"]):
                continue
            config = vocabulary(case["vocab"], mode="ties", granularity=case["granularity"])
            front_end = FrontEndConfig(segment_frames=case["segment_frames"])
            notes = trim_overlaps(notes_of(case["notes"])) if case["trim_overlaps"] else notes_of(case["notes"])
            found = encode(config, front_end, notes, case["num_frames"])
            starts = [each["start_time"] for each in case["segments"]]
            decoded = decode(config, map(Segment, starts, found))
            assert decoded.invalid <= case["invalid"], name
            assert len(decoded.notes) == len(case["decoded"]), name
            fewer += decoded.invalid < case["invalid"]
    assert fewer


def test_notes_that_cannot_be_are_refused(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "invalid_notes.json"):
        for case in load(folder / "invalid_notes.json").values():
            with pytest.raises(NotesError, match="must end after it starts and have a velocity"):
                encode(VocabularyConfig(), FrontEndConfig(), notes_of(case["notes"]), 256)


@pytest.mark.parametrize("kind", ["decode", "encode"])
def test_events_become_notes(golden_mt3: Path, kind: str) -> None:
    for folder in bundles(golden_mt3, "cases.json", kind):
        for name, case in load(folder / "cases.json").items():
            if any("error" in each for each in case["segments"]):
                continue
            config = vocabulary(case["vocab"], mode=case["mode"])
            decoded = decode(config, [Segment(each["start_time"], each["tokens"]) for each in case["segments"]])
            assert (decoded.invalid, decoded.dropped) == (case["invalid"], case["dropped"]), name
            expected = notes_of(case["notes" if kind == "decode" else "decoded"])
            assert [note[2:] for note in decoded.notes] == [note[2:] for note in expected], name
            for ours, theirs in zip(decoded.notes, expected, strict=True):
                assert ours[:2] == pytest.approx(theirs[:2], abs=TIME), name
