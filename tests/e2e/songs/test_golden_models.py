"""Every kind of model, from files on a web server to music, by the real command line in a folder of its own."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.audio.files import read_audio
from jukebox_core.tokens.codes import read_codes
from tests.helpers.models import zoo
from tests.helpers.workspace import LICENCE, MODELS, Workspace, clip, open_workspace, song

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jukebox_core.api.music import Codes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEED, SAMPLES, PROMPT_SECONDS = 11, 2, 0.1
SILENCE = 1e-3  # root of the mean square of sound that is as good as none; 16 bits end at 3e-5


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        cheapest, *others = zoo.kinds(metafunc.config)
        kinds = [cheapest, *(pytest.param(kind, marks=pytest.mark.endurance) for kind in others)]
        metafunc.parametrize("kind", kinds, scope="module")


@dataclass(frozen=True)
class Made:
    """A finished run, its command, and the requests that it made."""

    workspace: Workspace
    run: Path
    seconds: float
    arguments: tuple[str, ...]
    requests: tuple[str, ...]  # paths requested from the web server

    @property
    def manifest(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.run / "manifest.json").read_text())
        return found

    def tokens(self, level: int) -> int:
        hops, rate = self.workspace.config.vqvae.hops, self.workspace.config.vqvae.sample_rate
        return int(self.seconds * rate) // hops[-1] * (hops[-1] // hops[level])


@pytest.fixture(scope="module")
def made(
    request: pytest.FixtureRequest, golden: Path, kind: str, prefect_api: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """Music of two windows at least at every level; the first kind's command finds no Prefect server anywhere."""
    with open_workspace(golden, kind, tmp_path_factory.mktemp(kind), prefect_api) as workspace:
        top = workspace.config.priors[workspace.config.top]
        seconds = round(workspace.config.seconds(top.level, top.context + 11) + 0.001, 3)
        arguments = (
            "generate",
            f"model={workspace.model}",
            f"prompt.files=['{clip()}']",
            f"prompt.seconds={PROMPT_SECONDS}",
            f"seconds={seconds}",
            f"sampling.seed={SEED}",
            f"sampling.n_samples={SAMPLES}",
            *workspace.song_overrides,
        )
        run = workspace.run("first", *arguments, alone=kind == zoo.kinds(request.config)[0])
        assert [path.name for path in workspace.work.iterdir()] == ["outputs"]
        yield Made(workspace, run, seconds, arguments, tuple(path for path, _ in workspace.site.requests))


def test_sound_of_every_level(made: Made) -> None:
    vqvae = made.workspace.config.vqvae
    for level in range(vqvae.levels):
        for sample in range(SAMPLES):
            sound = read_audio(made.run / f"audio/level_{level}/sample_{sample}.wav", rate=vqvae.sample_rate)
            assert len(sound) == made.tokens(level) * vqvae.hops[level]
            assert np.isfinite(sound).all()
            for part in np.array_split(sound, 4):
                assert np.sqrt(np.mean(part**2)) > SILENCE


@pytest.fixture
def prompt(made: Made) -> dict[int, Codes]:
    """The codes of the prompt by level: of whole top-level tokens, since the end of a sound is heard at its start."""
    vqvae = made.workspace.config.vqvae
    sound = read_audio(clip(), rate=vqvae.sample_rate, seconds=PROMPT_SECONDS)
    return made.workspace.python().encode(sound[: len(sound) // vqvae.hops[-1] * vqvae.hops[-1]])


def test_codes_begin_with_the_prompt(made: Made, prompt: dict[int, Codes]) -> None:
    vqvae = made.workspace.config.vqvae
    songs = [read_codes(made.run / f"codes/sample_{sample}.npz").levels for sample in range(SAMPLES)]
    for level in range(vqvae.levels):
        known = len(prompt[level])
        assert known == int(PROMPT_SECONDS * vqvae.sample_rate) // vqvae.hops[-1] * vqvae.hops[-1] // vqvae.hops[level]
        for levels in songs:
            assert levels.keys() == set(range(vqvae.levels))
            assert levels[level].shape == (made.tokens(level),)
            assert 0 <= levels[level].min() <= levels[level].max() < vqvae.bins
            np.testing.assert_array_equal(levels[level][:known], prompt[level])
        assert not np.array_equal(songs[0][level], songs[1][level])


def test_the_python_interface_gives_the_same_tokens(made: Made, prompt: dict[int, Codes]) -> None:
    labels, options = song(made.workspace.config), {"seconds": made.seconds, "n_samples": SAMPLES, "seed": SEED}
    music = made.workspace.python().generate(labels, **options, start=prompt)
    for sample in range(SAMPLES):
        for level, tokens in read_codes(made.run / f"codes/sample_{sample}.npz").levels.items():
            np.testing.assert_array_equal(music.codes[level][sample], tokens, err_msg=f"level {level}")


def test_the_manifest_records_the_origin_of_the_music(made: Made) -> None:
    manifest = made.manifest
    assert manifest["status"] == "finished"
    assert manifest["weights"] == made.workspace.sha256  # as they were served, whatever copies were made of them
    assert manifest["licence"] == LICENCE
    assert (manifest["terms"]["terms"], manifest["terms"]["how"]) == ("made up", "JUKEBOX_ACCEPT_LICENCE=1")
    assert manifest["terms"]["acknowledged"] <= manifest["finished"]
    identity = manifest["identity"]
    assert identity["sampling"]["seed"] == SEED
    assert identity["seconds"] == made.seconds
    assert identity["model"]["name"] == made.workspace.config.name
    assert identity["prompt"]["files"] == [clip()]
    assert {"python", "torch", "numpy", "engine"} <= manifest["versions"].keys()
    listed = {record["path"] for record in manifest["audio"]}
    assert listed == {path.relative_to(made.run).as_posix() for path in (made.run / "audio").rglob("*.wav")}
    assert (made.run / "config.yaml").is_file()
    report = (made.run / "report.html").read_text()
    assert LICENCE in report
    assert all(path in report for path in listed)


def test_each_file_is_fetched_once(made: Made) -> None:
    served = {f"/{path}" for path in made.workspace.site.files}
    assert set(made.requests) == served
    assert all(made.requests.count(path) == 1 for path in served if path.startswith(f"/{MODELS}"))


def test_the_same_command_again_samples_nothing(made: Made) -> None:
    workspace, asked = made.workspace, len(made.workspace.site.requests)
    stored, before = workspace.windows, (made.run / "manifest.json").read_text()
    again = workspace.jukebox(*made.arguments, "run.name=first")
    assert "new tokens" not in again.stderr
    assert again.stdout.split() == [f"outputs/first/{record['path']}" for record in made.manifest["audio"]]
    other = workspace.run("other", *made.arguments)
    reused = re.findall(r"(\d+) windows, (\d+) of them reused", workspace.said["other"])
    assert len(reused) == workspace.config.vqvae.levels
    assert all(windows == old != "0" for windows, old in reused)
    assert "new tokens" not in workspace.said["other"]
    assert stored
    assert workspace.windows == stored
    assert len(workspace.site.requests) == asked
    assert json.loads(before)["created"] == made.manifest["created"]
    for sample in range(SAMPLES):
        first, second = (read_codes(run / f"codes/sample_{sample}.npz").levels for run in (made.run, other))
        assert all(np.array_equal(first[level], second[level]) for level in first)
