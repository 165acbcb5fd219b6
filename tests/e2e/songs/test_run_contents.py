"""Runs and the files that they were made from: moved, edited and lost; and outputs that are lost or damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.errors import AudioError, DownloadError, RunError
from pipelines.execution import outputs
from pipelines.runs.settings_of_run import resume_root, run_root
from pipelines.settings.compose import GENERATE, compose
from stages import resident
from tests.helpers.models.own_model import write_own_model
from tests.helpers.plain_flows import make_plainly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.runs.folder import RunFolder

pytestmark = pytest.mark.slow

COMMON = ("output.report=false", "seconds=0.1", "sampling=top_only", "hardware.device=cpu", "hardware.threads=1")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    write_own_model(folder / "model", scale=3.0)
    for name, pitch in (("a", 440), ("b", 330)):
        soundfile.write(folder / f"{name}.wav", np.sin(np.arange(4410) * pitch / 7018), 44100)
    return folder


@pytest.fixture
def workspace(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a model, prompts and weights of its own."""
    shutil.copytree(original, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    monkeypatch.setenv("JUKEBOX_WEIGHTS", str(tmp_path / "library"))
    model = Path("model/own.yaml")
    model.write_text(model.read_text().replace(str(original), str(tmp_path / "w")))
    yield tmp_path / "w"
    resident.release()


def generate(*overrides: str) -> RunFolder:
    return make_plainly(compose(GENERATE, ["model=model/own.yaml", *COMMON, *overrides]))


def resume(run: str, root: str = "outputs", *overrides: str) -> RunFolder:
    return make_plainly(compose(resume_root(run, root, overrides), overrides), resume=True)


def follow(command: str, run: str, *overrides: str) -> RunFolder:
    return make_plainly(compose(run_root(command, run, overrides), overrides))


def files(run: RunFolder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}


def sounds(run: RunFolder) -> list[str]:
    return [record["sha256"] for record in run.manifest()["audio"]]


def test_other_prompts_vocabularies_and_weights_make_other_runs(workspace: Path) -> None:
    mine = ("+weights.paths.level_2=mine.safetensors", "prompt.files=[p.wav]", "prompt.seconds=0.03")
    shutil.copy("model/files/level_2.safetensors", "mine.safetensors")
    shutil.copy("a.wav", "p.wav")
    first = generate(*mine)
    kept = files(first)

    shutil.copy("b.wav", "p.wav")
    second = generate(*mine)
    with pytest.raises(RunError, match=r"was made from other files .*the audio of the prompt"):
        generate(*mine, f"run.name={first.name}")
    shutil.copy("a.wav", "p.wav")

    write_own_model(workspace / "other", scale=2.0)
    shutil.copy("other/files/level_2.safetensors", "mine.safetensors")
    third = generate(*mine)
    with pytest.raises(RunError, match=r"was made from other files \(weights.level_2: [0-9a-f]{12} -> "):
        resume(first.name)
    shutil.copy("model/files/level_2.safetensors", "mine.safetensors")

    labels = Path("model/files/genres.txt")
    before = labels.read_text()
    labels.write_text(before.replace("unknown;0", "unknown;1").replace("folk;1", "folk;0"))
    fourth = generate(*mine)
    with pytest.raises(RunError, match=r"was made from other files \(vocabularies.genres_v2: "):
        resume(first.name)
    labels.write_text(before)

    runs = [first, second, third, fourth]
    assert len({run.path for run in runs}) == 4
    assert len({str(run.takes()) for run in runs}) == 4
    assert files(first) == kept
    assert generate(*mine).path == first.path
    assert files(first) == kept


def test_a_stored_run_needs_its_prompt_no_longer_and_its_weights_wherever_they_are(workspace: Path) -> None:
    shutil.copy("model/files/level_2.safetensors", "mine.safetensors")
    given = ("+weights.paths.level_2=mine.safetensors", "prompt.files=[a.wav]", "prompt.seconds=0.03")
    run = generate(*given, "run.name=first")
    first = sounds(run)
    Path("a.wav").rename("elsewhere.wav")
    Path("mine.safetensors").rename("there.safetensors")
    shutil.rmtree(run.path / "audio")
    with pytest.raises(DownloadError, match=r"weights\.paths\.level_2 is .*, but there is no such file"):
        resume("first")
    there = "weights.paths.level_2=there.safetensors"
    assert sounds(resume("first", "outputs", there)) == first
    assert follow("continue", "first", "seconds=0.12", there).manifest()["parent"]["run"] == "first"
    assert follow("upsample", "first", there).manifest()["status"] == "finished"
    with pytest.raises(AudioError, match=r"a\.wav"):
        generate(*given)

    shutil.rmtree("outputs/.store")  # so that the prompt is needed again
    shutil.rmtree(run.path / "audio")
    shutil.copy("b.wav", "a.wav")
    with pytest.raises(AudioError, match=r"a\.wav was changed since the run was planned"):
        resume("first", "outputs", there)
    Path("elsewhere.wav").rename("a.wav")
    assert sounds(resume("first", "outputs", there)) == first


def test_a_run_goes_on_from_another_folder(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sounds(generate("run.name=first"))
    shutil.rmtree("outputs/first/audio")
    (workspace / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert sounds(resume(str(workspace / "outputs/first"))) == first
    longer = follow("continue", str(workspace / "outputs/first"), "seconds=0.12")
    assert longer.path.parent == workspace / "outputs"
    assert not any(Path().iterdir())


def test_a_run_that_continues_another_follows_it_when_that_becomes_another(workspace: Path) -> None:
    parent = generate("run.name=parent", "sampling.seed=1")
    child = follow("continue", "parent", "seconds=0.12")
    kept = files(child)
    shutil.rmtree(parent.path)
    generate("run.name=parent", "sampling.seed=2")
    assert follow("continue", "parent", "seconds=0.12", "sampling.seed=1").path != child.path
    assert files(child) == kept
    assert resume(child.name).name == child.name
    assert files(child) == kept


@pytest.mark.parametrize("damage", ["removed", "truncated", "a folder"])
def test_lost_and_damaged_outputs_are_made_again(workspace: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same = ("run.name=first", "output.report=true")
    run = generate(*same)
    before = files(run)
    sampled: list[object] = []
    monkeypatch.setattr("pipelines.execution.execute.run_units", lambda *args, **_: sampled.append(args))
    for name in (
        "codes/sample_0.npz",
        "pictures/level_2_sample_0_waveform.png",
        "report.html",
        "audio/level_2/sample_0.wav",
    ):
        path = run.path / name
        whole = path.read_bytes()
        path.unlink()
        if damage == "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        elif damage == "a folder":
            path.mkdir()
            (path / "of the user").write_text("kept")
        again = resume("first") if name.startswith("codes") else generate(*same)
        assert again.name == run.name
        if name != "report.html":  # it has the times of the last invocation
            assert path.read_bytes() == before[str(path)], name
        assert path.is_file()
        if damage == "a folder":
            assert (path.with_name(f"{path.name}.damaged") / "of the user").read_text() == "kept"
    assert sampled == []


def test_a_run_folder_that_is_deleted_while_it_goes_on_ends_it_with_one_error(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = outputs.RunOutputs.write
    monkeypatch.setattr(outputs.RunOutputs, "write", lambda self, *_: shutil.rmtree(self.run.path) or whole(self, *_))
    with pytest.raises(RunError, match="outputs/first was removed while its run went on; what was sampled is stored"):
        generate("run.name=first")
    assert not Path("outputs/first/manifest.json").exists()
    Path("outputs/first/audio/preview").mkdir(parents=True, exist_ok=True)  # as a preview that was being written does
    monkeypatch.setattr(outputs.RunOutputs, "write", whole)
    run = generate("run.name=first")
    assert run.manifest()["status"] == "finished"
    assert json.loads(run.manifest_path.read_text())["identity"]["seconds"] == 0.1


def test_credentials_of_a_source_are_stored_nowhere(workspace: Path) -> None:
    """They are used for the download; a run without them is the same run."""
    secret = "weights.mirrors=['https://me:hunter2@127.0.0.1:9/models?sig=hunter2']"
    run = generate(secret, "output.report=true")
    stored = [path for path in Path("outputs").rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert stored == []
    assert "https://127.0.0.1:9/models" in (run.path / "config.yaml").read_text()
    assert resume(run.name).name == run.name
