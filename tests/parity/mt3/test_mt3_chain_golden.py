"""Sound to notes with trained models, MIDI files and metrics against the golden vectors `*chain`, `midi`, `metrics`."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import mido
import numpy as np
import pytest
import torch

from jukebox_core.audio.files import read_audio
from jukebox_core.evaluation.notes import evaluate, match, multi_instrument
from jukebox_core.families.mt3.checkpoints.loading import load_model
from jukebox_core.families.mt3.config import TranscriptionConfig, VocabularyConfig
from jukebox_core.families.mt3.events.encoding import encode
from jukebox_core.families.mt3.events.segments import frame_count
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.transcription.transcriber import Transcriber, open_transcriber
from jukebox_core.notes.midi import midi_bytes
from jukebox_core.notes.notes import Notes, parse_midi
from tests.helpers.models.mt3 import arrays, bundles, checkpoint_in, load, network, notes_of, padded, same_notes

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.families.mt3.model.front_end import FrontEnd

CHAIN_ATOL = 5e-3  # of encoder states, which start from another implementation's spectrogram
ONSET_ERROR = 0.00114  # seconds: half a tick
RATE = 16_000


class Chain:
    """A trained model and its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, load(folder / "chain.json")
        dicts = {name: run for name, run in self.data.items() if isinstance(run, dict)}
        self.runs = {name: run for name, run in dicts.items() if "generated_rows_incl_start" in run}

    def transcriber(self, run: str) -> Transcriber:
        memory = self.data.get("segmem_length")
        asked = re.search(r"_L(\d+)$", run)
        sizes = network(self.data["config"], int(asked[1]) if asked else memory)
        return open_transcriber(load_model(sizes, checkpoint_in(self.folder)))

    def audio(self, run: str) -> np.ndarray:
        [name] = [path.stem for path in self.folder.glob("*.wav") if run.split("_")[0] == path.stem]
        return read_audio(self.folder / f"{name}.wav", rate=RATE)

    def settings(self, run: str, **options: Any) -> TranscriptionConfig:
        case = self.runs[run]
        programs = tuple(case["valid_programs"]) if "valid_programs" in case else None
        return TranscriptionConfig(
            batch_size=case["batch_size"], max_tokens=case["max_length"], programs=programs, **options
        )


@pytest.fixture(scope="module")
def chains(golden_mt3: Path) -> list[Chain]:
    return [Chain(folder) for folder in bundles(golden_mt3, "chain.json")]


@pytest.mark.slow
@pytest.mark.parametrize("parity", [True, False])
def test_ids_and_notes_of_every_run(chains: list[Chain], parity: bool) -> None:
    for chain in chains:
        assert chain.runs
        for name, case in chain.runs.items():
            transcriber, settings = chain.transcriber(name), chain.settings(name, parity=parity)
            transcripts = list(transcriber.transcripts(chain.audio(name), settings))
            rows = case["generated_rows_incl_start"]
            found = padded([each.row.ids for each in transcripts], max(map(len, rows)))
            assert found == [[*row, *[0] * (len(found[0]) - len(row))] for row in rows], name
            kind = "parity" if parity else "correct"
            notes = transcriber.notes(transcripts, settings)
            assert same_notes(notes, case[f"notes_{kind}"]), name
            assert (notes.invalid_events, notes.dropped_events) == (case[f"invalid_{kind}"], case[f"dropped_{kind}"])
            if parity:
                read = vocabulary_of(transcriber.network.vocabulary).to_indices_as_ports
                for each, segment in zip(transcripts, case["segments_decoded"], strict=True):
                    assert each.start == pytest.approx(segment["start_time"], abs=1e-12), name
                    assert (read(each.row.ids), each.row.complete) == (segment["tokens_parity"], segment["eos_found"])


def test_upstream_cannot_ban_the_last_program(chains: list[Chain]) -> None:
    checked = 0
    for chain in chains:
        for case in chain.runs.values():
            if "banned_ids" in case:
                known = vocabulary_of(VocabularyConfig())
                assert known.banned_ids(case["valid_programs"], parity=True) == case["banned_ids"]
                last = known.to_ids([known.index("program", 127)])[0]
                assert known.banned_ids(case["valid_programs"], parity=False) == [*case["banned_ids"], last]
                checked += 1
    if not checked:
        pytest.skip("no run with banned programs")


@torch.no_grad()
def test_spectrograms_and_encoder_states(chains: list[Chain]) -> None:
    for chain in chains:
        stored, transcriber = arrays(chain.folder / "io.npz"), chain.transcriber("song")
        for key, expected in stored.items():
            match_ = re.fullmatch(r"(\w+)\.(inputs|encoder_last)_every(\d+)", key)
            assert match_, key
            run, what, every = match_.groups()
            found = transcriber.front_end(torch.from_numpy(chain.audio(run)))
            if what == "encoder_last":
                found = transcriber.model.encode(found)
                assert np.abs(found[:, :: int(every)].numpy() - expected).max() <= CHAIN_ATOL, key
            else:
                ours = found[:, :: int(every)].numpy()
                loud = expected > np.log(1e-3) if expected.min() < -1 else np.full_like(expected, True, bool)
                assert np.abs(ours - expected)[loud].max() <= CHAIN_ATOL, key


def test_a_song_gives_the_notes_that_made_it(chains: list[Chain]) -> None:
    """Ids equal those that encode the notes; scores are 1, also after a MIDI file in between."""
    for chain in chains:
        transcriber, audio = chain.transcriber("song"), chain.audio("song")
        source = notes_of(chain.data["trimmed_source_notes"])
        vocabulary, front_end = transcriber.network.vocabulary, transcriber.network.front_end
        targets = encode(vocabulary, front_end, source, frame_count(len(audio), front_end.hop))
        settings = chain.settings("song")
        transcripts = list(transcriber.transcripts(audio, settings))
        assert [each.row.ids for each in transcripts] == [vocabulary_of(vocabulary).to_ids(each) for each in targets]
        assert [vocabulary_of(vocabulary).to_ids(each) for each in targets] == chain.data["target_ids"]
        notes = transcriber.notes(transcripts, settings)
        for estimate in (notes, parse_midi(midi_bytes(notes), "x")):
            assert [score.f1 for score in evaluate(source, estimate)] == [1.0] * 4


def test_constrained_decoding_of_a_song_it_knows_changes_nothing(chains: list[Chain]) -> None:
    for chain in chains:
        transcriber, audio = chain.transcriber("song"), chain.audio("song")
        free = transcriber.transcribe(audio, chain.settings("song"))
        assert transcriber.transcribe(audio, chain.settings("song", constrained=True)) == free


@pytest.mark.slow
def test_constrained_decoding_of_an_unknown_piece_has_no_invalid_event(chains: list[Chain]) -> None:
    for chain in chains:
        for name in chain.runs:
            notes = chain.transcriber(name).transcribe(chain.audio(name), chain.settings(name, constrained=True))
            assert (notes.invalid_events, notes.dropped_events) == (0, 0), name


class OtherFrontEnd(torch.nn.Module):
    """The spectrogram written again, one segment at a time, with the mistakes of other programs."""

    def __init__(self, right: FrontEnd, mistake: str) -> None:
        super().__init__()
        self.config, self.right, self.mistake = right.config, right, mistake

    def forward(self, audio: torch.Tensor, first: int = 0, count: int | None = None) -> torch.Tensor:
        frames = frame_count(len(audio), self.config.hop)
        parts = self.right.segments(audio, first, count)
        left = [frames - (first + at) * self.config.segment_frames for at in range(len(parts))]
        return torch.stack([self.segment(part, valid) for part, valid in zip(parts, left, strict=True)])

    def segment(self, part: torch.Tensor, valid: int) -> torch.Tensor:
        size, hop = self.config.fft, self.config.hop
        front = size // 2 if self.mistake == "centred" else 0
        padded = torch.cat([torch.zeros(front), part, torch.zeros(size)])
        rows = torch.stack([padded[at * hop : at * hop + size] for at in range(self.config.segment_frames)])
        magnitude = torch.fft.rfft(rows * self.right.window).abs()
        mel = magnitude.pow(2 if self.mistake == "power" else 1) @ self.right.mel
        floor = 1e-20 if self.mistake == "no replacement" else 1e-5
        log = torch.where(mel > 0, mel, torch.tensor(floor)).log()
        log[max(valid, 0) :] = np.log(1e-5) if self.mistake == "padding" else 0.0
        return log


@torch.no_grad()
@pytest.mark.parametrize("mistake", ["", "power", "padding", "no replacement", "centred"])
def test_the_golden_numbers_notice_a_wrong_spectrogram(chains: list[Chain], mistake: str) -> None:
    """A model that knows its one song by heart may still transcribe it; its encoder states do not agree."""
    chain = next(each for each in chains if "segmem_length" not in each.data)
    right, stored = chain.transcriber("song"), arrays(chain.folder / "io.npz")
    for key in [key for key in stored if "encoder_last" in key]:
        made = OtherFrontEnd(right.front_end, mistake)(torch.from_numpy(chain.audio(key.partition(".")[0])))
        found = right.model.encode(made)[:, :: int(key.rpartition("every")[2])].numpy()
        assert bool(np.abs(found - stored[key]).max() <= CHAIN_ATOL) == (mistake == "")


def absolute(content: bytes) -> list[tuple[int, int, list[tuple[Any, ...]]]]:
    """Program, channel and notes of each track of a MIDI file, with absolute ticks, sorted."""
    tracks = []
    for track in mido.MidiFile(file=io.BytesIO(content)).tracks[1:]:
        now, events, program, channel = 0, [], -1, -1
        for message in track:
            now += message.time
            if message.type == "program_change":
                program, channel = message.program, message.channel
            elif message.type in ("note_on", "note_off"):
                events.append((now, message.type.removeprefix("note_"), message.note, message.velocity))
        tracks.append((program, int(channel == 9), sorted(events)))
    return sorted(tracks)


def upstream_tracks(data: dict[str, Any]) -> list[tuple[int, int, list[tuple[Any, ...]]]]:
    tracks = []
    for track in data["tracks"][1:]:
        [[_, _, channel, program]] = [event for event in track if event[1] == "program"]
        events = [(at, kind, *rest[1:]) for at, kind, *rest in track if kind in ("on", "off")]
        tracks.append((program, int(channel == 9), sorted(events)))
    return sorted(tracks)


def test_midi_files_have_the_ticks_of_upstream(golden_mt3: Path, chains: list[Chain]) -> None:
    cases = {
        f"{folder}/{name}": (case["notes"], case["upstream"])
        for folder in bundles(golden_mt3, "cases.json", "midi")
        for name, case in load(folder / "cases.json").items()
    }
    cases |= {str(each.folder): (each.data["song"]["notes_parity"], each.data["midi_upstream"]) for each in chains}
    for name, (rows, upstream) in cases.items():
        content = midi_bytes(Notes.of(notes_of(rows)))
        file = mido.MidiFile(file=io.BytesIO(content))
        assert (file.type, file.ticks_per_beat) == (upstream["type"], upstream["ticks_per_beat"])
        assert absolute(content) == upstream_tracks(upstream), name


def test_midi_files_are_read_back(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "cases.json", "midi"):
        for name, case in load(folder / "cases.json").items():
            notes = Notes.of(notes_of(case["notes"]))
            back = parse_midi(midi_bytes(notes), name)
            kept = [sorted((n.pitch, n.program, n.is_drum) for n in each) for each in (notes, back)]
            assert kept[0] == kept[1], name
            for key in {(n.pitch, n.program, n.is_drum) for n in notes}:
                starts = [[n.start for n in each if (n.pitch, n.program, n.is_drum) == key] for each in (notes, back)]
                assert np.abs(np.subtract(*starts)).max() <= ONSET_ERROR, name
            ticks = case["correct_ticks_at_220_per_quarter_120_bpm"]["rows"]
            assert sorted(round(n.start * 440) for n in back) == sorted(row[0] for row in ticks), name


def test_scores(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "cases.json", "metrics"):
        for name, case in load(folder / "cases.json").items():
            notes = [notes_of(case[which]) for which in ("ref", "est")]
            pitched = [[note for note in each if not note.is_drum] for each in notes]
            drums = [[note for note in each if note.is_drum] for each in notes]
            magenta = case["magenta_no_drums"]
            assert match(*pitched, offsets=False) == pytest.approx(magenta["onset_p_r_f1"]), name
            assert match(*pitched, offsets=True) == pytest.approx(magenta["onset_offset_p_r_f1"]), name
            assert match(*notes, offsets=False) == pytest.approx(case["mr_mt3_all_notes_onset_p_r_f1"]), name
            for granularity, expected in case["magenta_program_aware"].items():
                found = {
                    "Onset + offset + program": multi_instrument(*notes, granularity),
                    "Drum onset": match(*drums, offsets=False),
                    "Nondrum onset + offset + program": multi_instrument(*pitched, granularity),
                }
                for title, score in found.items():
                    columns = [expected[f"{title} {each} ({granularity})"] for each in ("precision", "recall", "F1")]
                    assert score == pytest.approx(columns), name
            for granularity, expected in case["mr_mt3_multi_instrument_onset_p_r_f1"].items():
                assert multi_instrument(*notes, granularity, offsets=False) == pytest.approx(expected), name
            for title, expected in case["tolerance_sweep"].items():
                tolerance = float(title.partition("(")[2].rstrip(")"))
                score = match(*pitched, offsets=True, tolerance=tolerance)._asdict()
                assert score[title.split()[3].lower()] == pytest.approx(expected), name
