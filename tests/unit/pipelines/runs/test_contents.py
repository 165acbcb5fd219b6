"""A run is what it was made from: words, prompts, vocabularies and weights, not the paths that they had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.structuring import build, to_plain
from jukebox_core.errors import LabelError, RunError
from jukebox_core.tokens.graph import Track
from pipelines.runs.choosing import named
from pipelines.runs.config_file import read_config
from pipelines.runs.contents import Contents, with_contents
from pipelines.runs.folder import RunFolder, check_free, default_name, earlier_name, identity, open_run, take_to_json
from pipelines.runs.settings_of_run import resume_root, run_root
from pipelines.settings.compose import GENERATE, compose, dump
from pipelines.settings.generate import Settings
from tests.helpers.fake_runs import composed

if TYPE_CHECKING:
    from jukebox_core.tokens.graph import Take

WORDS = ("song.lyrics_file=words.txt",)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def take(key: str) -> Take:
    return (Track(), Track(), Track().extend(key * 64, 100))


def contents(key: str = "a", **weights: str) -> Contents:
    made = {"vqvae": "1" * 64, "level_2": "2" * 64} | weights
    return Contents(takes=(take(key),), codec="vqvae", weights=made, vocabularies={"artists_v3": key * 64})


def opened(settings: Settings, made_from: Contents) -> RunFolder:
    """The planned run of these settings."""
    folder = open_run(settings, dump(settings), made_from)
    folder.update(
        takes=[take_to_json(each) for each in made_from.takes],
        weights=dict(made_from.weights),
        made_from=made_from.made_from(),
        status="finished",
    )
    return folder


def test_edited_words_make_another_run_and_the_first_one_stays() -> None:
    Path("words.txt").write_text("one two three\n")
    settings, first = composed(WORDS), default_name(composed(WORDS))
    assert identity(settings)["song"]["lyrics"] == "one two three\n"
    Path("words.txt").rename("moved.txt")
    assert default_name(composed(("song.lyrics_file=moved.txt",))) == first, "not the path"
    Path("words.txt").write_text("four five six\n")
    assert default_name(settings) != first
    own = {"songs": ({"lyrics_file": "moved.txt"},)}
    of_sample = build(Settings, to_plain(composed(())) | own)
    assert identity(of_sample)["songs"][0]["lyrics"] == "one two three\n"


def test_a_named_run_refuses_other_words() -> None:
    settings = composed((*WORDS, "run.name=mine"))
    Path("words.txt").write_text("one two three\n")
    open_run(with_contents(settings), dump(with_contents(settings)))
    Path("words.txt").write_text("four five six\n")
    with pytest.raises(RunError, match=r"made with other settings \(song.lyrics: 'one two three\\n' -> 'four"):
        check_free(settings)


def test_a_run_holds_its_words_whatever_becomes_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ufeffpay\n'you': \x85 \u2028 {a: *b} # no\ttabs  \n\n"
    Path("words.txt").write_text(text)
    settings = with_contents(composed((*WORDS, "run.name=mine", "prompt.files=[a.wav, builtin:tune]")))
    open_run(settings, dump(settings))
    Path("words.txt").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run, name = f"root={tmp_path / 'outputs'}", "mine"
    again = compose(resume_root(name, run.removeprefix("root="), []))
    assert (again.song.lyrics, again.song.lyrics_file) == (text, None)
    assert again.prompt.files == (str(tmp_path / "a.wav"), "builtin:tune")
    assert again.storage.tokens == str(tmp_path / "outputs/.store")
    further = compose(run_root("continue", str(tmp_path / "outputs/mine"), ["seconds=9"]), ["seconds=9"])
    assert further.song.lyrics == text
    assert further.storage.root == str(tmp_path / "outputs")


def test_a_lyrics_file_that_is_gone_is_reported_by_the_command_that_names_it() -> None:
    with pytest.raises(LabelError, match=r"lyrics file words\.txt cannot be read"):
        with_contents(composed(WORDS))


def test_prompts_name_a_run_by_their_content() -> None:
    Path("a.wav").write_bytes(b"one")
    first = default_name(composed(("prompt.files=[a.wav]",)))
    Path("a.wav").rename("b.wav")
    assert default_name(composed(("prompt.files=[b.wav]",))) == first
    Path("b.wav").write_bytes(b"another")
    assert default_name(composed(("prompt.files=[b.wav]",))) != first


def test_other_files_under_the_same_paths_make_another_run() -> None:
    given = composed(())
    first = named(given, given, contents("a"))
    assert first.run.name == default_name(given)
    folder = opened(first, contents("a"))
    before = folder.manifest_path.read_bytes()
    second = named(given, given, contents("b"))
    assert second.run.name == f"{default_name(given)}-{contents('b').digest[:8]}"
    opened(second, contents("b"))
    for key, expected in (("a", first), ("b", second), ("a", first)):
        assert named(given, given, contents(key)) == expected
    codec = contents("a", vqvae="3" * 64)
    assert named(given, given, codec).run.name not in (first.run.name, second.run.name)
    assert folder.manifest_path.read_bytes() == before


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (contents("b"), "vocabularies.artists_v3: aaaaaaaaaaaa -> bbbbbbbbbbbb"),
        (contents("a", vqvae="3" * 64), "weights.vqvae: 111111111111 -> 333333333333"),
        (replace(contents("b"), vocabularies={}), "the tokens that it begins with, or a file that was not recorded"),
    ],
)
def test_a_named_run_refuses_other_files_and_says_which(other: Contents, differs: str) -> None:
    given = composed(("run.name=mine",))
    opened(named(given, given, contents("a")), contents("a"))
    message = rf"run mine was made from other files \({differs}\); nothing is overwritten"
    with pytest.raises(RunError, match=message.replace("(", "(").replace(".", r"\.")):
        named(given, given, other)
    with pytest.raises(RunError, match="made from other files"):
        open_run(given, dump(given), other)


def test_a_run_of_an_earlier_version_is_found_by_the_path_that_names_it() -> None:
    Path("words.txt").write_text("one two three\n")
    given = composed(WORDS)
    settings = with_contents(given)
    old = replace(settings, run=replace(settings.run, name=earlier_name(given)))
    folder = opened(old, contents("a"))
    manifest = folder.manifest() | {"identity": identity(settings)}
    manifest["identity"]["song"] |= {"lyrics": "", "lyrics_file": "words.txt"}
    folder.update(**manifest)
    assert named(settings, given, contents("a")).run.name == folder.name
    assert named(settings, given, contents("b")).run.name == default_name(given)
    Path("words.txt").write_text("four five six\n")
    assert named(with_contents(given), given, contents("b")).run.name == default_name(given) != folder.name


def test_settings_in_another_folder_start_at_the_folder_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("run.name=mine", "weights.folder=w", "+weights.paths.vqvae=w/v.pth", "storage.tokens=s3://a/b")
    settings = composed(overrides)
    open_run(settings, dump(settings))
    assert read_config(Path("outputs/mine")) == to_plain(settings)
    Path("moved/here").mkdir(parents=True)
    Path("outputs").rename("moved/outputs")
    monkeypatch.chdir("moved/here")
    again = compose(resume_root("mine", "../outputs", []))
    base = Path.cwd().parent
    assert Path(again.weights.folder or "").resolve() == base / "w"
    assert Path(again.weights.paths["vqvae"]).resolve() == base / "w/v.pth"
    assert (again.storage.tokens, again.storage.root) == ("s3://a/b", str(Path("../outputs").absolute()))
    assert compose(GENERATE, []).storage.tokens == "outputs/.store"
