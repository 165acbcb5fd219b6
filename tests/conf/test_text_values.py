"""Text of a user is data: it is taken without a second pair of quotes, comes back from a run as it was, and reads
nothing from the environment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import yaml

from jukebox_core.errors import ConfigError
from pipelines.runs.settings_of_run import resume_root, run_root
from pipelines.settings.compose import COMPOSE, ENCODE, GENERATE, compose, dump, from_command_line
from pipelines.settings.generate import Settings

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-of-the-environment"
TEXTS = [
    "pay ${price} now", "${oc.env:HOME}", "${song.artist}", "${", "${a", "a\\${b}", "\\\\${b}", "\\", "a\\", "???",
    "$${x}", "${${x}}", "\ufdd0", "it's \"so\"", "[intro] hey, you", "null", "two\nlines", "{a: b}", "さくら",
    " spaces ",
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", SECRET)


def stored(tmp_path: Path, settings: dict[str, object]) -> Path:
    """A run whose config.yaml has these settings beside the usual ones."""
    folder = tmp_path / "outputs" / "run"
    folder.mkdir(parents=True)
    usual = yaml.safe_load(dump(compose(GENERATE)))
    (folder / "config.yaml").write_text(yaml.safe_dump(usual | settings, allow_unicode=True), encoding="utf-8")
    return folder


@pytest.mark.parametrize("overrides", [[], ["seconds=7", "sampling.seed=3", "output.format=flac"]])
def test_stored_text_is_the_same_in_a_resumed_and_a_continued_run(tmp_path: Path, overrides: list[str]) -> None:
    usual = yaml.safe_load(dump(compose(GENERATE)))
    changed = {
        "song": usual["song"] | {"artist": TEXTS[0], "lyrics": TEXTS[1]},
        "songs": [{"artist": text, "lyrics": text} for text in TEXTS],
        "sampling": usual["sampling"] | {"n_samples": len(TEXTS)},
        "model": usual["model"] | {"files": usual["model"]["files"] | {"licence": "".join(TEXTS)}},
        "storage": usual["storage"] | {"tokens": "${oc.env:SECRET}"},
    }
    stored(tmp_path, changed)
    for root in (resume_root("run", "outputs", []), run_root("continue", "run", []), run_root("upsample", "run", [])):
        found = compose(root, overrides)
        assert (found.song.artist, found.song.lyrics) == (TEXTS[0], TEXTS[1])
        assert [song.artist for song in found.songs] == [song.lyrics for song in found.songs] == TEXTS
        assert (found.model.files.licence, found.storage.tokens) == ("".join(TEXTS), "${oc.env:SECRET}")


def test_a_group_replaces_stored_text_and_the_rest_stays(tmp_path: Path) -> None:
    stored(tmp_path, {"prompt": {"files": ["${a}"], "seconds": None, "offset_seconds": 0.0}})
    found = compose(resume_root("run", "outputs", ["song=lantern"]), ["song=lantern"])
    assert found.prompt.files == ("${a}",)
    assert "lantern" in found.song.lyrics.lower()


def test_text_of_the_command_line_survives_its_run(tmp_path: Path) -> None:
    first = compose(GENERATE, ['song.lyrics="pay \\${price} now"'])
    assert first.song.lyrics == "pay ${price} now"
    folder = tmp_path / "outputs" / "run"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(first), encoding="utf-8")
    again = compose(resume_root("run", "outputs", []))
    assert again.song == first.song


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("song.lyrics=さくら", "さくら"),
        ("song.lyrics=hello, world", "hello, world"),
        ("song.lyrics=Don't stop (now)!", "Don't stop (now)!"),
        ("song.lyrics=[Intro] la; la & la", "[Intro] la; la & la"),
        ('song.lyrics=She said "no" \\', 'She said "no" \\'),
        ("song.lyrics=two\nlines", "two\nlines"),
        ("song.lyrics=#1 <3", "#1 <3"),
        ("song.lyrics=???", "???"),
        ('song.lyrics="???"', "???"),
        ("song.lyrics=a${song.artist}, b", "aunknown, b"),
        ('song.lyrics="quoted, as before"', "quoted, as before"),
        ("song.lyrics='Beyoncé'", "Beyoncé"),
        ("song.lyrics=plain words", "plain words"),
        ("song.lyrics=choice(a)", "choice(a)"),
        ("++song.lyrics=é", "é"),
        ("song.lyrics=", ""),
    ],
)
def test_text_needs_no_second_pair_of_quotes(override: str, text: str) -> None:
    assert compose(GENERATE, [override]).song.lyrics == text
    assert from_command_line(GENERATE, [override])[0].song.lyrics == text


def test_names_in_lists_and_sections_need_none_either() -> None:
    assert compose(ENCODE, ["audio=[été.wav, plain.wav, b & c.wav]"]).audio == ("été.wav", "plain.wav", "b & c.wav")
    assert compose(GENERATE, ["songs=[{artist: Beyoncé, genre: folk}]"]).songs[0].artist == "Beyoncé"
    assert compose(GENERATE, ["storage.root=été"]).storage.root == "été"
    assert compose(GENERATE, ["model=mini", "run.name=Älteres Stück"]).run.name == "Älteres Stück"


def test_one_file_is_a_list_of_one() -> None:
    assert compose(ENCODE, ["audio=clip.wav", "levels=2"]).audio == ("clip.wav",)
    assert compose(ENCODE, ["audio=clip.wav", "levels=2"]).levels == (2,)
    assert compose(GENERATE, ["prompt.files=my clip (1) é.mp3"]).prompt.files == ("my clip (1) é.mp3",)
    with pytest.raises(ConfigError, match=r"for a list write audio=\[a.wav,b.wav\]"):
        compose(ENCODE, ["audio=a.wav,b.wav"])


def test_a_sweep_stays_a_sweep() -> None:
    jobs = from_command_line(GENERATE, ["--multirun", "song.artist=Beyoncé,organ", "song.lyrics=la!"])
    assert [job.song.artist for job in jobs] == ["Beyoncé", "organ"]
    assert [job.song.lyrics for job in jobs] == ["la!", "la!"]


def test_what_is_no_text_is_not_taken_for_text() -> None:
    assert compose(GENERATE, ["song.lyrics_file=null"]).song.lyrics_file is None
    for override in ("seconds=6é", "sampling.seed=1, 2", "output.format=wav, flac"):
        with pytest.raises(ConfigError):
            compose(GENERATE, [override])
    with pytest.raises(ConfigError, match="seconds has no value; give seconds="):
        compose(GENERATE, ["seconds=???"])


@pytest.mark.parametrize(
    "override",
    [
        "song.lyrics=${oc.env:SECRET}",
        "song.lyrics='a ${oc.env:SECRET} b'",
        "song.lyrics=é ${oc.env:SECRET}",
        "song.lyrics=${oc.decode:${oc.env:SECRET}}",
        "song.lyrics=${oc.select:x,${oc.env:SECRET}}",
        "song.lyrics=${oc.env:NOPE,${oc.env:SECRET}}",
        "song.lyrics=${${song.artist}:SECRET}",
        "song.lyrics=${now:%Y}",
        "song.lyrics=${hydra:runtime.cwd}",
        "songs=[{artist: '${oc.env:SECRET}'}]",
        "prompt.files=['${oc.env:SECRET}']",
        "storage.root=/tmp/${oc.env:SECRET}",
        "run.name=${oc.env:SECRET}",
        "seconds=${oc.env:SECRET}",
        "model=${oc.env:SECRET}",
        "model=/tmp/${oc.env:SECRET}.yaml",
        "+experiment=${oc.env:SECRET}",
        "hydra.searchpath=[file:///tmp/${oc.env:SECRET}]",
        "+song.${oc.env:SECRET}=1",
        "~song.${oc.env:SECRET}",
        "+song@${oc.env:SECRET}=lantern",
    ],
)
def test_no_override_reads_the_environment(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(GENERATE, [override])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "flags", [["--cfg", "job"], ["--cfg", "job", "--resolve"], ["--multirun"], ["--info", "config"]]
)
def test_nor_with_a_flag_of_hydra(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_command_line(GENERATE, ["song.lyrics=${oc.env:SECRET}", *flags])
    printed = capsys.readouterr()
    assert SECRET not in str(caught.value) + printed.out + printed.err


def test_no_file_of_a_user_reads_the_environment(tmp_path: Path) -> None:
    (tmp_path / "song").mkdir()
    for place in (tmp_path / "mine.yaml", tmp_path / "song" / "mine.yaml"):
        place.write_text("lyrics: ${oc.env:SECRET}\n", encoding="utf-8")
    (tmp_path / "song" / "named.yaml").write_text("defaults: ['${oc.env:SECRET}']\n", encoding="utf-8")
    for overrides in (
        [f"song={tmp_path}/mine.yaml"],
        [f"hydra.searchpath=[file://{tmp_path}]", "song=mine"],
        [f"hydra.searchpath=[file://{tmp_path}]", "song=named"],
    ):
        with pytest.raises(ConfigError) as caught:
            compose(GENERATE, overrides)
        assert SECRET not in str(caught.value)


def test_a_setting_refers_to_another_by_name() -> None:
    assert compose(GENERATE, ["storage.root=x", "storage.tokens=${storage.root}/y"]).storage.tokens == "x/y"
    assert compose(COMPOSE, ["folder=album-${songs}"]).folder == f"album-{compose(COMPOSE).songs}"


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "a\0b"])
@pytest.mark.parametrize("key", ["song.artist", "song.lyrics", "storage.root", "run.name"])
def test_text_that_cannot_be_stored_is_refused(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} is '.*(which is not UTF-8|text has no NUL)"):
        compose(GENERATE, [f"{key}={text}"])


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nests too deep|cannot be"):
        compose(GENERATE, ["songs=" + "[" * 3000])


def test_the_environment_is_not_read_by_code_either() -> None:
    """Not even a file that is read by Hydra alone, before the settings are checked."""
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError

    assert Settings.__doc__  # the composition module, which replaces the resolvers, is loaded
    with pytest.raises(InterpolationResolutionError) as caught:
        OmegaConf.to_container(OmegaConf.create({"a": "${oc.env:SECRET}"}), resolve=True)
    assert os.environ["SECRET"] not in str(caught.value)
