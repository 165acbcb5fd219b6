"""Every mistake gets one clear line before weights are loaded and before Prefect starts, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import yaml

from jukebox_core.audio.files import write_audio
from jukebox_core.tokens.codes import Codes, write_codes
from jukebox_core.tokens.graph import Track
from pipelines import exit_status as status
from pipelines.cli import main as cli
from pipelines.orchestration import prefect_home
from pipelines.runs.folder import default_name, identity, take_to_json
from pipelines.settings.compose import GENERATE, compose, dump
from tests.helpers.models.own_model import SECONDS, write_own_model
from tests.helpers.paths import ROOT
from tests.helpers.servers.servers import serving

if TYPE_CHECKING:
    from pipelines.settings.generate import Settings

RATE = 44100


class Workspace:
    """A user's folder with a model, recordings and lyrics, and the command line."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def refused(self, *arguments: str, ended: int = status.REFUSED) -> str:
        """The one line that a command is refused with; it left no trace. `ended`: its exit status."""
        before = listing()
        self._capsys.readouterr()
        assert cli.main(arguments) == ended
        shown = self._capsys.readouterr()
        assert shown.out == ""
        line, *more = shown.err.splitlines()
        assert all(each.startswith("jukebox:   ") for each in more)  # a list that belongs to the line
        assert line.startswith("jukebox: ")
        assert listing() == before
        return line.removeprefix("jukebox: ")

    def generate(self, *overrides: str, ended: int = status.REFUSED) -> str:
        """The line that `jukebox generate` with the user's own model is refused with."""
        arguments = ("generate", "model=./own.yaml", f"seconds={SECONDS}", "hardware=cpu", *overrides)
        return self.refused(*arguments, ended=ended)


def listing() -> dict[str, int]:
    """Everything in the working directory but copies of the model's files, and when it was last written."""
    files = (path for path in Path().rglob("*") if path.is_file() and path.parts[0] != "weights")
    return {str(path): path.stat().st_mtime_ns for path in files} | {str(path): 0 for path in Path("outputs").glob("*")}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("own")).parent


@pytest.fixture
def workspace(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Workspace:
    def started(*_: object) -> None:
        raise AssertionError("Prefect was started")

    monkeypatch.setattr(prefect_home, "connect", started)
    monkeypatch.setenv("JUKEBOX_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text((model_folder / "own.yaml").read_text())
    sound = 0.1 * np.sin(np.arange(RATE // 20, dtype=np.float32))  # 0.05 s
    write_audio("short.wav", sound, RATE)
    write_audio("blip.wav", sound[:100], RATE)
    write_audio("long.wav", np.tile(sound, 10), RATE)
    soundfile.write("nan.wav", np.where(np.arange(len(sound)) == 900, np.nan, sound), RATE, subtype="FLOAT")
    Path("empty.wav").touch()
    Path("text.mp3").write_text("This is not a song.\n" * 50)
    Path("folder.wav").mkdir()
    Path("blank.txt").write_text(" \n")
    Path("latin.txt").write_bytes("Ein schönes Lied".encode("latin-1"))
    return Workspace(capsys)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # names
        (["song.artist=the beatles"], "artist 'the beatles' is not among the 3 v2 artists; closest: 'the_beetles'"),
        (["song.genre=slow walz"], "genre 'walz' (in 'slow walz') is not among the 7 v2 genre words; closest: 'waltz'"),
        (["song.artist=''"], "is not among the 3 v2 artists; choose 'the_beetles', 'organ_trio', or 'unknown'"),
        (
            ["song.genre=slow folk rock pop jazz waltz"],
            "genre 'slow folk rock pop jazz waltz' has 6 words ('slow', 'folk', 'rock', 'pop', 'jazz', 'waltz'); "
            "a v2 genre has at most 5; leave some out",
        ),
        (["songs=[{artist: organ trio}, {artist: nobody}]", "sampling.n_samples=2"], "artist 'nobody' is not among"),
        # lyrics
        (["model=mini", "seconds=6", 'song.lyrics="###"'], "lyrics '###' hold no character that the model knows"),
        (["model=mini", "seconds=6", "song.lyrics_file=none.txt"], "lyrics file none.txt cannot be read as text"),
        (["model=mini", "seconds=6", "song.lyrics_file=latin.txt"], "lyrics file latin.txt cannot be read as text"),
        (["model=mini", "seconds=6", "song.lyrics_file=blank.txt"], "lyrics file blank.txt holds no words"),
        (["song.lyrics=la"], "song.lyrics is set, but model own knows no lyrics; remove them, or choose model="),
        # prompts
        (["prompt.files=[none.wav]"], "audio file none.wav does not exist; correct the path, or use builtin:tune"),
        (["prompt.files=[empty.wav]"], "audio file empty.wav is empty"),
        (["prompt.files=[text.mp3]"], "text.mp3 is not audio that can be read"),
        (["prompt.files=[folder.wav]"], "folder.wav is a folder, not an audio file"),
        (["prompt.files=[nan.wav]"], "the audio of nan.wav has values that are not finite, the first 0.02 s in"),
        (["prompt.files=[short.wav]", "prompt.seconds=0.08"], "short.wav lasts 0.05 s, too short to read 0.08 s from"),
        (["prompt.files=[short.wav]", "prompt.offset_seconds=1"], "short.wav lasts 0.05 s, too short to read from 1 s"),
        (["prompt.files=[short.wav,none.wav]", "sampling.n_samples=2"], "audio file none.wav does not exist"),
        (["prompt.files=[blip.wav]"], "blip.wav gives less than one top-level token (0.0029 s)"),
        (["prompt.files=[long.wav]"], "prompt long.wav fills all of seconds=0.1, which leaves nothing to sample; use"),
        (["prompt.files=[short.wav]", "prompt.seconds=0.1"], "prompt.seconds is 0.1, which leaves nothing to sample"),
        # lengths
        (["seconds=0.05"], "seconds is 0.05, but the upsampler of level 1 needs a full context of 128 tokens; set sec"),
        (["seconds=-1"], "seconds is -1.0; it must be above 0 and finite"),
        (["song.total_seconds=0.09"], "song.total_seconds is 0.09, but the music ends at 0.098"),
        (["song.total_seconds=60"], "song.total_seconds is 60, but own knows songs from 0.05 s to just under 60 s"),
        (["seconds=61"], "song.offset_seconds + seconds is 61, but own knows songs from"),
        # sampling
        (["sampling.level_2.temperature=0"], "sampling.level_2.temperature is 0.0; it must be above 0 (0.99 is usual)"),
        (["sampling.level_2.temperature=-1"], "sampling.level_2.temperature is -1.0; it must be above 0"),
        (["sampling.level_1.top_k=3", "sampling.level_1.top_p=0.9"], "top_k=3 and top_p=0.9 are both set; choose one"),
        # keys
        (["+sampling.sed=1"], "sampling.sed is not a setting; closest: 'seed'"),
        (["song.artits=x"], "song.artits is not a setting; closest: 'artist'"),
        (["+nothing=1"], "nothing is not a setting; the whole consists of"),
        # the machine
        (["hardware.device=cuda:7"], "device 'cuda:7' is not available; this machine has cpu"),
        (["storage.tokens=own.yaml"], "own.yaml"),
        (["storage.root=own.yaml"], "own.yaml"),
    ],
    ids=str,
)
def test_a_mistake_in_a_setting(workspace: Workspace, overrides: list[str], message: str) -> None:
    assert message in workspace.generate(*overrides)


def test_unknown_is_a_name(workspace: Workspace) -> None:
    assert "none.wav" in workspace.generate("song.artist=unknown", "song.genre=Unknown", "prompt.files=[none.wav]")


def test_a_model_too_large_for_the_machine_is_refused_with_settings_that_fit(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jukebox_core.runtime import device

    monkeypatch.setattr(device, "free_memory", lambda _: 1_000_000_000)
    monkeypatch.setattr("jukebox_core.families.jukebox.sampling.memory.WORKING_BYTES", 999_000_000)
    line = workspace.generate("sampling.n_samples=16", "hardware.batch_size=16")
    assert line.startswith("own in float32 with a batch of 16 samples needs about 1.00 GB but cpu has 1.00 GB free")
    assert "hardware.batch_size=1 needs" in line
    assert "model=mini" in line


@pytest.mark.slow
def test_the_largest_model_in_full_precision_is_refused_by_its_size(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jukebox_core.runtime import device
    from pipelines.execution import preflight
    from pipelines.settings.hardware import sampling_memory

    monkeypatch.setattr(device, "free_memory", lambda _: 24_000_000_000)
    settings = compose(GENERATE, ["model=5b_lyrics", "seconds=24", "hardware=cpu", "hardware.dtype=float32"])
    with pytest.raises(
        Exception, match=r"5b_lyrics in float32 .* needs about 2\d\.\d\d GB .*dtype=bfloat16 needs 1\d\."
    ) as e:
        preflight.check_memory(sampling_memory(settings), settings.hardware, samples=1)
    assert "model=1b_lyrics" in str(e.value)


# ---- weights


class Mischief:
    """A pickle that would write a file if it were loaded carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("owned").write_text, ("x",))


def other_model(path: Path) -> bytes:
    return (write_own_model(path / "other", width=64).parent / "files" / "level_2.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("role", "content", "message"),
    [
        ("level_2", lambda whole, _: whole[: len(whole) // 2], "no whole safetensors file"),
        ("level_0", lambda *_: b"<!DOCTYPE html><html>Not found</html>", "web page"),
        ("level_1", lambda *_: pickle.dumps({"model": Mischief(), "hps": {}}), "holds code, and nothing of it was run"),
        ("vqvae", lambda *_: b"", "empty"),
        ("level_2", lambda _, folder: other_model(folder), "is not a checkpoint of this model"),
        ("vqvae", lambda _, folder: other_model(folder), "is not a checkpoint of this model"),
    ],
    ids=["truncated", "web-page", "code", "empty", "another-size", "another-part"],
)
def test_wrong_weights(workspace: Workspace, model_folder: Path, role: str, content: Any, message: str) -> None:
    files = Path("files")
    files.mkdir()
    for path in (model_folder / "files").iterdir():
        (files / path.name).write_bytes(path.read_bytes())
    wrong = files / f"{role}.safetensors"
    wrong.write_bytes(content(wrong.read_bytes(), Path.cwd()))
    model = yaml.safe_load(Path("own.yaml").read_text())
    model["files"]["weight_sources"] = [files.absolute().as_uri()]
    Path("own.yaml").write_text(yaml.safe_dump(model))
    line = workspace.generate(ended=status.FAILED)
    assert message in line
    assert role in line


def test_missing_weights_are_reported(workspace: Workspace) -> None:
    model = yaml.safe_load(Path("own.yaml").read_text())
    model["files"]["weights"]["level_1"]["path"] = "gone.safetensors"
    Path("own.yaml").write_text(yaml.safe_dump(model))
    assert "gone.safetensors" in workspace.generate(ended=status.FAILED)
    assert "offline, and 8 files are not on this machine" in workspace.refused(
        "generate", "model=1b_lyrics", "weights.offline=true", ended=status.FAILED
    )


# ---- runs


@cache  # the file is the same in every test
def own_settings(*overrides: str) -> Settings:
    return compose(GENERATE, ["model=./own.yaml", f"seconds={SECONDS}", "hardware=cpu", *overrides])


def store_run(name: str | None = None, *overrides: str, takes: object = None, **model: object) -> Settings:
    """Writes a finished run of the user's own model, without its music."""
    settings = own_settings(*overrides)
    folder = Path("outputs") / (name or default_name(settings))
    folder.mkdir(parents=True)
    made = identity(settings)
    made["model"] |= model
    whole = tuple(Track().extend("0" * 64, settings.length // hop) for hop in settings.model.config.hops)
    stored = [take_to_json(whole)] if takes is None else takes
    manifest = {"schema": 1, "status": "finished", "identity": made, "takes": stored}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "config.yaml").write_text(dump(settings))
    return settings


def test_a_name_in_use_is_refused_with_the_differing_settings(workspace: Workspace) -> None:
    store_run("first", "song.genre=folk")
    line = workspace.generate("run.name=first", "song.genre=jazz")
    assert line.startswith("run first was made with other settings (song.genre: 'folk' -> 'jazz'); nothing is overwr")
    Path("outputs/notes").mkdir()
    Path("outputs/notes/todo.txt").write_text("buy strings")
    assert "outputs/notes exists and is not a run; choose another run.name" in workspace.generate("run.name=notes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["continue", "first"], "run first has 0.1 s at every level down to 0 already, so continue has nothing to do"),
        (["upsample", "first"], "so upsample has nothing to do; name a run that stopped above"),
        (
            ["continue", "first", "model=mini", "seconds=6"],
            "run first was made by another model (model.name: 'own' -> ",
        ),
        (["continue", "wide", "seconds=0.2"], "run wide was made by another model (model.network.vqvae.bins: 64 -> 32"),
        (["continue", "first", "seconds=0.2", "sampling.n_samples=2"], "has 1 samples but sampling.n_samples is 2"),
        (["continue", "early", "seconds=0.2"], "run early made no tokens yet; run it again to its end first"),
        (["continue", "frist"], "'frist' is not a run: there is no config.yaml in it; give a run's folder or its name"),
        (["continue", "first", "seconds=0.2", "song.artist=nobody"], "artist 'nobody' is not among the 3 v2 artists"),
    ],
)
def test_a_run_that_cannot_be_continued_is_refused(workspace: Workspace, arguments: list[str], message: str) -> None:
    store_run("first")
    store_run("early", takes=[])
    wide = store_run("wide")
    path = Path("outputs/wide/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["identity"]["model"]["network"]["vqvae"]["bins"] = 2 * wide.model.network.vqvae.bins
    path.write_text(json.dumps(manifest))
    assert message in workspace.refused(*arguments)


# ---- encode and decode


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "audio=[none.wav]"], "audio file none.wav does not exist"),
        (["encode", "audio=[short.wav,text.mp3]"], "text.mp3 is not audio that can be read"),
        (["encode", "audio=[short.wav]", "seconds=3"], "short.wav lasts 0.05 s, too short to read 3 s"),
        (["encode", "audio=[short.wav,./short.wav]"], "would both become outputs/codes/short.npz; rename one"),
        (
            ["encode", "audio=[short.wav]", "folder=taken"],
            "taken/short.npz exists, and was not made from short.wav with these settings; nothing is overwritten",
        ),
        (["encode", "audio=[short.wav]", "hardware.device=cuda:7"], "device 'cuda:7' is not available"),
        (["decode", "codes=[none.npz]"], "codes file none.npz does not exist; `jukebox encode` makes one"),
        (["decode", "codes=[short.wav]"], "short.wav is not a codes file, or is damaged"),
        (["decode", "codes=[taken/short.npz]", "level=1"], "taken/short.npz has no level 1; it has [0]: choose one"),
        (["decode", "codes=[taken/short.npz]"], "does not hold codes from 0 to 31"),
        (["decode", "codes=[taken/other.npz]"], "was made by model 'other' (codec 0123), not by 'own'"),
    ],
)
def test_a_mistake_in_files_to_encode_or_decode(workspace: Workspace, arguments: list[str], message: str) -> None:
    write_codes(path_in("taken", "short.npz"), Codes({0: np.arange(40, dtype=np.int32)}, {"model": "own"}))
    foreign = {"model": "other", "vqvae_sha256": "0123"}
    write_codes(path_in("taken", "other.npz"), Codes({0: np.zeros(40, np.int32)}, foreign))
    assert message in workspace.refused(*arguments, "model=./own.yaml")


def path_in(folder: str, name: str) -> Path:
    Path(folder).mkdir(exist_ok=True)
    return Path(folder, name)


# ---- the program itself


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["generate", "song.artist=organn"],
            "jukebox: artist 'organn' is not among the 9 v3 artists; closest: 'organ'",
        ),
        (["generate", "prompt.files=[none.wav]"], "jukebox: audio file none.wav does not exist"),
        (["genrate"], "jukebox: there is no command 'genrate'"),
        (["generate", "hardware.device=cuda:7"], "jukebox: device 'cuda:7' is not available"),
    ],
)
def test_the_program_says_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JUKEBOX_WEIGHTS": str(tmp_path / "weights")}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli.main", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status.REFUSED
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(message)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_wrong_file_from_a_server_is_reported_before_sampling(
    model_folder: Path, tmp_path: Path, prefect_api: str
) -> None:
    served = {path.name: path.read_bytes() for path in (model_folder / "files").iterdir()}
    served["level_0.safetensors"] = served["level_0.safetensors"][:-1000]
    with serving(served) as site:
        model = yaml.safe_load((model_folder / "own.yaml").read_text())
        model["files"]["weight_sources"] = [site.url]
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(model))
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pipelines.cli.main",
                "generate",
                "model=./own.yaml",
                f"seconds={SECONDS}",
                "hardware=cpu",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": prefect_api, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == status.FAILED
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("jukebox: ")]
    assert "level_0.safetensors is no checkpoint of torch and no whole safetensors file" in line
    assert done.stderr.splitlines()[-1] == line
    [manifest] = (tmp_path / "outputs").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["status"] == "stopped"
    assert not list((tmp_path / "outputs/.store").glob("windows/**/*.*"))
