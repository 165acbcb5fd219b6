"""The words of a run in time with its music: mini's songs, whose truth is known, runs, and what cannot be aligned."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jukebox_core as jukebox
from jukebox_core.audio.files import write_audio
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.errors import ConfigError, RunError
from jukebox_core.families.jukebox.alignment.heads import Head, alignment_head
from jukebox_core.models.presets import load_preset
from pipelines.execution import align
from pipelines.orchestration import stage_calls
from pipelines.runs.settings_of_run import resume_root
from pipelines.settings.compose import ALIGN, GENERATE, compose
from tests.helpers.models.own_model import write_own_model
from tests.helpers.plain_flows import make_plainly, run_plainly

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.settings.align import AlignSettings

HELD_OUT = AlbumConfig(songs=48, seed=271_828, seconds=10.0, sample_rate=22050, channels=1)  # of no training
LONGER = replace(HELD_OUT, seconds=20.0)  # of up to 30 s: several windows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def sung(root: Path) -> Path:
    """A run of a song with lyrics: nearly all of it is a prompt, so that little has to be sampled."""
    track = next(each for each in plan_album(HELD_OUT) if each.sung)
    score = track.compose()
    audio = render_score(score, HELD_OUT)[:, 0]
    seconds = len(audio) / HELD_OUT.sample_rate
    write_audio(root / "song.wav", audio, HELD_OUT.sample_rate)
    settings = compose(
        GENERATE,
        [
            f"storage.root={root}/out",
            f"prompt.files=[{root}/song.wav]",
            f"prompt.seconds={seconds - 0.1}",
            f"seconds={seconds}",
            "sampling=top_only",
            "run.name=sung",
            "runner.preview_seconds=null",
            f"song.artist='{track.artist}'",
            f"song.genre={track.genre}",
            f"song.lyrics='{score.lyrics}'",
        ],
    )
    return run_plainly(settings)


def align_settings(root: Path, *overrides: str) -> AlignSettings:
    return compose(ALIGN, [f"storage.root={root}/out", "hardware.engine=eager", *overrides])


@pytest.mark.slow
def test_a_run_with_lyrics(sung: Path, root: Path) -> None:
    paths = align.align(align.prepare(align_settings(root, "run=sung", "matrix=true")))
    assert sorted(path.name for path in paths) == sorted(
        f"sample_0.{suffix}" for suffix in ("TextGrid", "json", "lrc", "npy", "srt", "vtt")
    )
    content = json.loads((sung / "align/sample_0.json").read_text())
    codes = np.load(sung / "align/sample_0.npy")
    assert codes.shape[1] == len(content["text"])
    words = content["words"]
    assert [word["text"] for word in words] == content["text"].split()
    assert all(one["start"] <= other["start"] for one, other in pairwise(words))
    for overrides, message in (
        (("layer=2",), "layer 2 attends to no lyrics; choose 15"),
        (("head=2",), "head is 2; layer 15 has heads 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            align.prepare(align_settings(root, "run=sung", *overrides))
    with pytest.raises(RunError, match=r"'sang' is not a run.*closest: 'sung'"):
        align.prepare(align_settings(root, "run=sang"))


@pytest.mark.slow
def test_a_run_that_aligns_its_words_itself(sung: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tokens, then the words: made once, resumed after an interruption, shown in the report."""
    made: list[str] = []
    whole = stage_calls.PLAIN.align_song

    def align_song(*given: Any) -> Any:
        made.append(given[-1].name)
        if len(made) == 1:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(stage_calls.PLAIN, "align_song", align_song, raising=False)
    overrides = ["align=true", "hardware.engine=eager", "alignment.hop=1.0", "alignment.upstream=true"]
    settings = compose(resume_root("sung", f"{root}/out", overrides), overrides)
    (sung / "report.html").unlink()
    with pytest.raises(KeyboardInterrupt):
        make_plainly(settings, resume=True)
    assert not (sung / "report.html").exists(), "it comes after the words"
    run = make_plainly(settings, resume=True)
    assert made == ["sample_0"] * 2
    make_plainly(settings, resume=True)  # finished: nothing is left to do
    assert made == ["sample_0"] * 2
    manifest = run.manifest()
    [record] = manifest["alignment"]
    assert (record["sample"], manifest["status"]) == (0, "finished")
    assert record["focus"] > 0.3
    assert {timing["stage"] for timing in manifest["timings"]} >= {"decode", "align"}
    words = json.loads((sung / "align/sample_0.json").read_text())["words"]
    page = (sung / "report.html").read_text("utf-8")
    assert page.count("<button") == len(words)
    assert {Path(each["path"]).name.partition(".")[2] for each in record["files"]} >= {"align.json", "align.png", "lrc"}
    (sung / "align/sample_0.json").unlink()
    make_plainly(settings, resume=True)
    assert made == ["sample_0"] * 3
    assert json.loads((sung / "align/sample_0.json").read_text())["words"] == words


@pytest.mark.slow
def test_a_head_that_does_not_follow_the_words_is_reported(
    sung: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = align_settings(root, "run=sung", "head=1", "hop=1.0", f"folder={root}/other", "formats=[json]")
    with caplog.at_level("INFO", logger="jukebox"):
        align.align(align.prepare(settings))
    assert "the head does not follow the words (focus" in caplog.text
    assert json.loads((root / "other/sample_0.json").read_text())["focus"] < 0.3


@pytest.mark.slow
def test_a_run_without_lyrics_and_one_that_stopped_are_refused(
    sung: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = compose(
        GENERATE, [f"storage.root={root}/out", "sampling=top_only", "run.name=plain", "seconds=2.2",
                   "prompt=tune", "prompt.seconds=2.1", "runner.preview_seconds=null"],
    )  # fmt: skip
    run_plainly(plain)
    with pytest.raises(ConfigError, match=r"run plain has no lyrics to align; generate one with song.lyrics"):
        align.prepare(align_settings(root, "run=plain"))
    monkeypatch.setattr(align.TokenStore, "missing", lambda _, keys: set(keys))
    with pytest.raises(RunError, match=r"run sung lacks \d+ windows of its top level; finish it with"):
        align.prepare(align_settings(root, "run=sung"))


@pytest.mark.slow
def test_words_of_held_out_songs_are_near_their_true_times(record_property: Callable[[str, object], None]) -> None:
    """The goal is a median of 100 ms and 90 % within 300 ms; upstream's way of joining windows is given beside."""
    model = jukebox.load_model("mini", hardware=jukebox.HardwareConfig(device="cpu", dtype="float32", engine="eager"))
    away: dict[str, list[float]] = {"mean": [], "first": []}
    for track in [each for each in plan_album(LONGER) if each.sung][:3]:
        score = track.compose()
        song = jukebox.Song(artist=track.artist, genre=track.genre, lyrics=score.lyrics)
        codes = model.encode(render_score(score, LONGER)[:, 0], [2])[2]
        places = [at for at, character in enumerate(score.lyrics) if not character.isspace()]
        true = {at: letter.start for at, letter in zip(places, score.letters, strict=False)}
        for merge, found in away.items():
            words = model.align(codes=codes, song=song, merge=merge).words()
            found += [abs(word.start - true[word.first]) for word in words if word.first in true]
    for merge, found in away.items():
        median, share = 1000 * float(np.median(found)), float(np.mean(np.array(found) < 0.3))
        record_property("figures", f"{len(found)} words, {merge}: median {median:.0f} ms, {share:.0%} within 300 ms")
    assert np.median(away["mean"]) < 0.1
    assert np.mean(np.array(away["mean"]) < 0.3) > 0.9


def test_the_head_is_that_of_the_settings_or_the_last_that_attends_to_lyrics(tmp_path: Path) -> None:
    assert alignment_head(load_preset("mini").config) == Head(15, 0)
    assert alignment_head(load_preset("5b_lyrics").config) == Head(68, 2)
    assert alignment_head(load_preset("1b_lyrics").config) == Head(63, 0)
    own = load_preset(write_own_model(tmp_path))
    with pytest.raises(ConfigError, match="model own knows no lyrics, so it cannot align them"):
        alignment_head(own.config)


def test_songs_that_cannot_be_aligned_are_refused(tmp_path: Path) -> None:
    model = jukebox.load_model("mini", folder=tmp_path / "none")
    sound = np.zeros(22050 * 3, np.float32)
    for song, message in (
        (jukebox.Song(), "the song has no lyrics to align"),
        (jukebox.Song(lyrics="la", total_seconds=1.0), "total_seconds is 1.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.align(sound, song=song)
    with pytest.raises(ConfigError, match="give either audio or codes"):
        model.align(song=jukebox.Song(lyrics="la"))
