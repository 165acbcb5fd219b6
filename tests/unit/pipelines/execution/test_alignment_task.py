"""`align=true`: refused before any work where it cannot be done, and a task whose songs are aligned once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from jukebox_core.alignment.config import AlignmentConfig
from jukebox_core.errors import ConfigError
from jukebox_core.tokens.graph import Span, Track
from pipelines.execution.alignment import RunAlignment, check_alignment, in_run, timed_texts
from pipelines.runs.removal import Contained
from pipelines.runs.settings_of_run import resume_root, run_root
from pipelines.settings.compose import GENERATE, compose
from stages.resident import AlignerSpec
from stages.sound.align import AlignedWords, SungTrack
from tests.helpers.fake_runs import fake_run

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.runs.folder import RunFolder

SUNG = "song.lyrics=over the water"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "align is true, but the song has no lyrics; set song.lyrics or song.lyrics_file, or align=false"),
        (("model=5b",), "model 5b knows no lyrics, so it cannot align them"),
        ((SUNG, "alignment.layer=2"), "layer 2 attends to no lyrics; choose 15, counted from 0"),
        ((SUNG, "alignment.head=2"), "head is 2; layer 15 has heads 0 to 1"),
        (
            (SUNG, "model=small_single_enc_dec_prior"),
            r"model small_single_enc_dec_prior names no head that follows lyrics; set layer and head: choose 15,",
        ),
        (("sampling.n_samples=2", "songs=[{}, {}]"), "no lyrics"),
    ],
)
def test_what_cannot_be_aligned_is_refused(overrides: tuple[str, ...], message: str) -> None:
    settings = compose(GENERATE, ["align=true", "seconds=61", "hardware.dtype=float32", *overrides])
    with pytest.raises(ConfigError, match=message):
        check_alignment(settings, settings.alignment)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alignment.hop=0", r"alignment.hop is 0.0; it must be above 0 and at most 1"),
        ("alignment.layer=-1", "alignment.layer is -1; it is counted from 0"),
        ("alignment.formats=[]", "alignment.formats is empty, and matrix and upstream are false"),
        ("alignment.formats=[json,json]", "name each once"),
        ("alignment.formats=[ass]", "formats"),
        ("alignment.merge=last", "merge"),
    ],
)
def test_values_out_of_range_name_the_setting(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(GENERATE, ["align=true", SUNG, override])


def test_one_song_with_words_suffices() -> None:
    settings = compose(GENERATE, ["align=true", "sampling.n_samples=2", "songs=[{}, {lyrics: la la}]"])
    check_alignment(settings, settings.alignment)


def test_the_checks_before_a_run_refuse_first(tmp_path: Path) -> None:
    from pipelines.execution import preflight

    settings = compose(GENERATE, ["align=true", f"storage.root={tmp_path}/out", f"storage.tokens={tmp_path}/tokens"])
    with pytest.raises(ConfigError, match="align is true"):
        preflight.prepare(settings)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return fake_run("sung", "sampling.n_samples=2", SUNG)


class FakeStages:
    """Writes the files of a song, as the stage does; stops before the sample `until`."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.until: str | None = None

    def align_song(
        self, _aligner: object, song: SungTrack, _store: str, config: AlignmentConfig, stem: Path
    ) -> AlignedWords:
        if stem.name == self.until:
            raise KeyboardInterrupt
        self.made.append(stem.name)
        stem.parent.mkdir(exist_ok=True)
        word = {"text": song.text, "first": 0, "stop": len(song.text), "start": 0.5, "end": 1.0, "estimated": False}
        for suffix in config.formats:
            stem.with_name(f"{stem.name}.{suffix}").write_text(json.dumps({"text": song.text, "words": [word]}))
        return AlignedWords(1, 0, 0.9)


def task(weights: str = "w", *, text: str = "over", config: AlignmentConfig | None = None) -> RunAlignment:
    spec: Any = AlignerSpec(
        family="jukebox",
        config=cast("Any", None),
        role="level_2",
        weights=cast("Any", type("Weights", (), {"identity": weights})),
        hardware=cast("Any", type("Hardware", (), {"dtype": "float32"})),
        layer=15,
        head=0,
    )
    track = Track((Span("a" * 64, 0, 100),))
    song = SungTrack(
        track=track, text=text, conditioning=(), row_seconds=0.1, offset_seconds=0, song_seconds=10
    )  # fmt: skip
    return RunAlignment(aligner=spec, songs={0: song, 1: song}, store="", config=in_run(config or AlignmentConfig()))


def write(run: RunFolder, alignment: RunAlignment, stages: FakeStages | None = None) -> list[str]:
    stages = stages or FakeStages()
    alignment.write(run, cast("Any", stages))
    return stages.made


def test_a_song_is_aligned_once_and_again_if_a_cause_or_a_file_changes(run: RunFolder) -> None:
    assert not task().is_complete(run.path, run.manifest())
    assert write(run, task()) == ["sample_0", "sample_1"]
    assert task().is_complete(run.path, run.manifest())
    assert write(run, task()) == []
    (run.path / "align/sample_1.srt").write_text("damaged")
    assert write(run, task()) == ["sample_1"]
    for other in (task("v"), task("v", text="under"), task("v", text="under", config=AlignmentConfig(hop=0.5))):
        assert write(run, other) == ["sample_0", "sample_1"]
    more = AlignmentConfig(hop=0.5, formats=("lrc",))  # fewer files, of which JSON is one for the report
    assert write(run, task("v", text="under", config=more)) == []


def test_an_interruption_costs_one_song(run: RunFolder) -> None:
    stages = FakeStages()
    stages.until = "sample_1"
    with pytest.raises(KeyboardInterrupt):
        write(run, task(), stages)
    assert write(run, task()) == ["sample_1"]


def test_the_report_gets_the_words_of_intact_files(run: RunFolder) -> None:
    write(run, task())
    (run.path / "align/sample_0.json").write_text("damaged")
    found = timed_texts(run.path, run.manifest())
    assert [(sample, text.words[0].text, text.words[0].start) for sample, text in found.items()] == [(1, "over", 0.5)]


def test_the_files_belong_to_the_run(run: RunFolder) -> None:
    write(run, task())
    assert Contained.of(run.path).others == ()


def test_runs_of_earlier_versions_can_be_continued_and_resumed_with_it(run: RunFolder) -> None:
    path = run.path / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({k: v for k, v in stored.items() if k not in ("align", "alignment")}))
    given = ["align=true", "alignment.hop=0.5", "seconds=12"]
    for root in (
        run_root("continue", "sung", given),
        run_root("upsample", "sung", given),
        resume_root("sung", "outputs", given),
    ):
        settings = compose(root, given)
        assert (settings.align, settings.alignment) == (True, AlignmentConfig(hop=0.5))
    path.write_text(yaml.safe_dump({**stored, "align": True}))
    assert compose(run_root("continue", "sung", []), ["seconds=12"]).align
