"""Files and search paths of the user's own: models and other groups, and what they may hold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hydra.core.config_store import ConfigStore

from jukebox_core.base.paths import conf_dir
from jukebox_core.base.structuring import to_plain
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.conditioning.song import Song
from jukebox_core.models.presets import load_preset, option_data
from pipelines.settings.compose import (
    GENERATE,
    compose,
    from_command_line,
    stored_root,
)

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


MINE = "defaults: [mini]\nname: mine\nfiles:\n  licence: mine\n"


def test_a_file_of_ones_own_is_a_model(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", MINE)
    model = compose(GENERATE, [f"model={path}"]).model
    assert (model.name, model.files.licence, model.network.priors) == (
        "mine",
        "mine",
        load_preset("mini").network.priors,
    )
    assert load_preset(path) == model


def test_a_folder_of_ones_own_is_a_model_even_with_a_space_in_its_name(tmp_path: Path) -> None:
    write(tmp_path / "a folder" / "model.yaml", MINE)
    assert compose(GENERATE, [f"model='{tmp_path / 'a folder'}'"]).model == load_preset(tmp_path / "a folder")


def test_a_file_named_like_a_shipped_model_is_still_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "5b.yaml", MINE)
    assert compose(GENERATE, [f"model={path}"]).model.name == "mine"


def test_a_file_of_ones_own_works_for_every_group(tmp_path: Path) -> None:
    path = write(tmp_path / "ballad.yaml", "defaults: [unknown]\nartist: organ\n")
    assert compose(GENERATE, [f"song={path}"]).song == Song(artist="organ")


def test_a_sibling_comes_before_a_shipped_file(tmp_path: Path) -> None:
    write(tmp_path / "mini.yaml", (conf_dir() / "model" / "mini.yaml").read_text(encoding="utf-8"))
    write(tmp_path / "big.yaml", "defaults: [mini]\nname: big\n")
    assert load_preset(tmp_path / "big.yaml").config.priors == load_preset("mini").config.priors


def names(options: dict[str, object]) -> set[str]:
    inner = {f"{name}/{each}" for name, part in options.items() if isinstance(part, dict) for each in names(part)}
    return inner | {name for name, part in options.items() if not isinstance(part, dict)}


def test_options_added_for_one_composition_are_removed_afterwards(tmp_path: Path) -> None:
    settings = compose(GENERATE)
    known = names(ConfigStore.instance().repo)
    compose(GENERATE, [f"model={write(tmp_path / 'mine.yaml', MINE)}"])
    assert compose(stored_root("again", to_plain(settings), [])) == settings
    with pytest.raises(ConfigError):
        compose(stored_root("again", to_plain(settings), []), ["secods=7"])
    assert names(ConfigStore.instance().repo) == known


def test_a_search_path_adds_options(tmp_path: Path) -> None:
    write(tmp_path / "model" / "mine.yaml", "defaults: [mini]\nname: mine\n")
    assert compose(GENERATE, [f"hydra.searchpath=[file://{tmp_path}]", "model=mine"]).model.name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: [mine]\n", "builds on itself"),
        ("defaults: [minni]\n", "names 'minni', but no minni.yaml is in"),
        ("defaults: [../x.yaml]\n", "only plain names"),
        ("- a\n", "holds list; it must hold names and values"),
        ("a: [\n", "cannot be read as YAML"),
        ("defaults: 5\n", "defaults is 5; it must be a list of names"),
        ("defaults: {model: mini}\n", "it must be a list of names"),
        ("name: &me [*me]\n", "name.0 contains itself by an alias"),
        ("files: &me {weights: *me}\n", "files.weights contains itself by an alias"),
        ("name: 2020-13-45\n", "cannot be read as YAML: month must be in 1..12"),
        ("name: 2020-11-30\n", "name is datetime.date(2020, 11, 30), which no setting can be"),
        ("name: !!binary YQ==\n", "name is b'a', which no setting can be"),
        (f"network: {'9' * 5000}\n", "cannot be read as YAML: Exceeds the limit"),
        (f"network: {'9' * 4000}\n", "which no setting can be"),
        ("7: a\n", "the whole has the name 7, which is not text"),
        (f"name: {'[' * 100}{']' * 100}\n", "lies more than 30 levels deep"),
        (f"name: {'[' * 100_000}\n", "cannot be read as YAML"),
        ("x\0y: 1\n", "cannot be read as YAML"),
        ("name: a\n---\nname: b\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "mine.yaml", text)
    with pytest.raises(ConfigError, match="mine") as caught:
        option_data(path, "model")
    assert message in str(caught.value)


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    layers = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 13)]
    path = write(tmp_path / "mine.yaml", "\n".join(["a0: &a0 [x]", *layers]))
    with pytest.raises(ConfigError, match="holds more than 100,000 values, aliases written out"):
        option_data(path, "model")


@pytest.mark.parametrize("flag", [None, "--config-dir"])
@pytest.mark.parametrize("text", ["lyrics: &me [*me]\n", "- a\n", "pipe"])
def test_the_files_of_a_search_path_have_the_same_limits(tmp_path: Path, text: str, flag: str | None) -> None:
    (tmp_path / "song").mkdir()
    if text == "pipe":
        os.mkfifo(tmp_path / "song" / "mine.yaml")
    else:
        (tmp_path / "song" / "mine.yaml").write_text(text)
    where = [f"hydra.searchpath=[file://{tmp_path}]"] if flag is None else [flag, str(tmp_path)]
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        from_command_line(GENERATE, ["song=mine", *where])


def test_an_alias_that_stays_small_is_no_bomb(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", "a: &a [x, y]\nb: [*a, *a]\n")
    assert option_data(path, "model")["b"] == [["x", "y"], ["x", "y"]]


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "latin"])
def test_a_model_file_is_a_text_file_of_a_usual_size(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"a" * 11_000_000 if kind == "large" else "name: caf\xe9".encode("latin-1"))
    expected = {"large": "larger than 10.0 MB", "latin": "save it as UTF-8"}
    with pytest.raises(ConfigError, match="mine") as caught:
        load_yaml(path)
    assert expected.get(kind, "no regular file") in str(caught.value)
