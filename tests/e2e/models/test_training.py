"""Music to a model and back to music: `jukebox train`, then `jukebox generate model=<the folder it made>`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jukebox_core.models.presets import load_preset, option_data, option_path
from jukebox_core.training.log import METRICS_NAME, read_entries
from tests.helpers.models.own_model import write_own_model

pytestmark = [pytest.mark.slow, pytest.mark.endurance]
JUKEBOX = Path(sys.executable).with_name("jukebox")


def jukebox(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(JUKEBOX), *arguments], capture_output=True, text=True, check=False, env=dict(os.environ))


def done(*arguments: str) -> str:
    ended = jukebox(*arguments)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def training(steps: int) -> dict[str, Any]:
    """mini's settings with a few steps."""
    data: dict[str, Any] = option_data(option_path("mini", "training"), "training")
    for part in ("vqvae", "level_0", "level_1", "level_2"):
        data[part]["loop"] |= {
            "max_steps": steps, "batch_size": 2, "logging_steps": 1, "save_steps": 2, "eval_batches": 1,
        }  # fmt: skip
    data["devices"]["accelerator"] = "cpu"
    return data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with songs, a model without weights anywhere, and the trained model: model/."""
    folder = tmp_path_factory.mktemp("training")
    own = yaml.safe_load(write_own_model(folder).read_text())
    own["network"]["priors"]["level_2"]["timing"] = {"bins": 8, "min_seconds": 0.05, "max_seconds": 60.0}
    own["files"]["weight_sources"] = [(folder / "nowhere").as_uri()]  # all parts are trained: none is fetched
    (folder / "own.yaml").write_text(yaml.safe_dump(own))
    (folder / "few.yaml").write_text(yaml.safe_dump(training(2)))
    done("compose", "songs=4", "seconds=8", "seed=1", f"folder={folder / 'songs'}", 'artists=["music box"]')
    lines = [json.loads(line) for line in (folder / "songs" / "metadata.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"artist": "organ_trio", "genre": "waltz"}
    (folder / "songs" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done(*train(folder))
    return folder


def train(folder: Path, *more: str) -> list[str]:
    given = (f"model={folder / 'own.yaml'}", f"training={folder / 'few.yaml'}", f"data.audio={folder / 'songs'}")
    checks = ("data.checks.shortest_seconds=2", "data.validation=0", "name=mine", f"folder={folder / 'model'}")
    return ["train", *given, *checks, f"storage.root={folder / 'outputs'}", *more]


def test_the_folder_holds_a_complete_model(made: Path) -> None:
    model = load_preset(made / "model")
    assert (model.name, model.trained) == ("mine", True)
    for spec in (*model.files.weights.values(), *model.files.vocabularies.values()):
        assert (made / "model" / spec.path).stat().st_size == spec.bytes
    card = (made / "model" / "README.md").read_text()
    assert "# mine" in card
    assert "| level_2 | 2 |" in card
    assert list((made / "model" / "training" / "vqvae" / "log").glob("events.out.tfevents.*"))


def test_evaluations_log_audio_and_spectrograms(made: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for part, names in (("vqvae", {"original", "level_0", "level_1", "level_2"}), ("level_2", {"music", "continued"})):
        events = EventAccumulator(str(made / "model" / "training" / part / "log"), size_guidance={"audio": 0})
        tags = events.Reload().Tags()
        assert set(tags["audio"]) == names
        assert set(tags["images"]) == {f"{name}_spectrogram" for name in names}
        assert all(len(sound.encoded_audio_string) > 1000 for sound in events.Audio(min(names)))
        metrics = {"train/usage_l1", "train/usage_l2", "train/usage_l3"} if part == "vqvae" else {"train/bits"}
        assert metrics <= set(tags["scalars"])


def test_the_model_samples_also_from_another_folder(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "model", tmp_path / "moved")
    given = (f"model={tmp_path / 'moved'}", "seconds=0.2", "song.artist=organ_trio", f"storage.root={tmp_path}")
    sounds = done("generate", *given, "hardware=cpu", f"weights.folder={tmp_path / 'weights'}").split()
    assert sounds
    assert all(Path(sound).stat().st_size > 44 for sound in sounds)


def test_the_same_command_trains_nothing_twice(made: Path) -> None:
    logs = sorted((made / "model").rglob("metrics.jsonl"))
    before = [path.stat().st_mtime_ns for path in logs]
    assert len(before) == 4
    done(*train(made))
    assert [path.stat().st_mtime_ns for path in logs] == before


def test_a_training_resumes_with_no_other_music(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "songs", tmp_path / "songs")
    ended = jukebox(*train(made, f"data.audio={tmp_path / 'songs'}"))
    assert ended.returncode == 2
    assert f"belongs to the recordings in {made / 'songs'}, not to those in" in ended.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["data.audio=/nowhere"], "/nowhere"),
        (["parts=[level_2,vqvae]"], "vqvae comes first"),
        (["parts=[level_3]"], "parts names 'level_3'"),
        (["data.codes=/codes"], "its codes are not known yet"),
        (["training.vqvae.seconds=900"], "none of 4 songs to learn from is as long as a clip of 900 s"),
        (["training.level_2.loop.max_steps=0"], "max_steps is 0; it must be positive"),
        (["training.vqvae.loop.batch_size=1000000000"], "vqvae: training takes about"),
        (["model.network.priors.level_2.timing.max_seconds=6"], "knows songs from 0.05 s to below 6 s; take them out"),
        (
            ["model.network.priors.level_2.labels.artists=2"],
            "has id 2, but the prior knows ids below 2; its vocabulary belongs to another model",
        ),
    ],
)
def test_wrong_settings_are_one_clear_line(made: Path, tmp_path: Path, more: list[str], message: str) -> None:
    ended = jukebox(*train(made, f"folder={tmp_path / 'model'}", *more))
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_recordings_that_cannot_be_used_are_left_out_and_reported(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "songs", tmp_path / "songs")
    (tmp_path / "songs" / "page.mp3").write_text("<html>404</html>")
    audio = f"data.audio={tmp_path / 'songs'}"
    given = train(made, audio, f"folder={tmp_path / 'model'}", "parts=[vqvae]", "training.vqvae.loop.num_workers=1")
    trained = jukebox(*given, "data.checks.most_unreadable=0.5")
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "4 of 5 files can be used" in trained.stderr
    assert "1 unreadable: page.mp3" in trained.stderr
    assert "Traceback" not in trained.stderr


def test_two_processes_train_about_as_one_with_twice_the_batch_size(made: Path, tmp_path: Path) -> None:
    parts = ["training.vqvae.loop.batch_size=1", "training.level_2.loop.batch_size=1", "parts=[vqvae,level_2]"]
    two = ["training.devices.devices=2", *parts, f"folder={tmp_path / 'two'}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, "-m", "pipelines.cli.main", *train(made, *two)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    done(*train(made, "parts=[vqvae,level_2]", f"folder={tmp_path / 'one'}"))
    for part in ("vqvae", "level_2"):
        one, both = (losses(tmp_path / name / "training" / part) for name in ("one", "two"))
        assert len(one) == 2
        # Each process initialises codebooks from its own batch; priors are compared exactly elsewhere.
        assert both == pytest.approx(one, rel=0.05)
    assert load_preset(tmp_path / "two").trained


def losses(folder: Path) -> list[float]:
    entries = read_entries(folder / "log" / METRICS_NAME)
    return [entry["loss"] for entry in entries if entry["part"] == "train"]


def test_a_label_that_the_model_does_not_know_is_refused_before_training(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "songs", tmp_path / "songs")
    path = tmp_path / "songs" / "metadata.jsonl"
    path.write_text(path.read_text().replace("organ_trio", "organ_tria"))
    ended = jukebox(*train(made, f"folder={tmp_path / 'model'}", f"data.audio={tmp_path / 'songs'}"))
    assert ended.returncode == 2
    assert "organ_tria" in ended.stderr
    assert "organ_trio" in ended.stderr  # the near miss
    assert not (tmp_path / "model" / "training").exists()
