"""The other commands, one after another as a user runs them, with the golden model that is cheapest to sample."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.audio.files import read_audio, read_tags
from jukebox_core.tokens.codes import read_codes
from tests.helpers.models import zoo
from tests.helpers.workspace import Workspace, clip, open_workspace, song

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jukebox_core.api.music import Codes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEED = 12


@pytest.fixture(scope="module")
def workspace(
    request: pytest.FixtureRequest, golden: Path, prefect_api: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    kind, *_ = zoo.kinds(request.config)
    with open_workspace(golden, kind, tmp_path_factory.mktemp("commands"), prefect_api) as found:
        yield found


@pytest.fixture(scope="module")
def seconds(workspace: Workspace) -> float:
    """Music that fills the contexts of both upsamplers, and ends within the top level's."""
    priors = workspace.config.priors
    return round(max(workspace.config.seconds(level, priors[level].context + 40) for level in (0, 1)) + 0.001, 3)


@pytest.fixture(scope="module")
def sketch(workspace: Workspace, seconds: float) -> Path:
    """A run of the top level alone."""
    return workspace.run(
        "sketch",
        "generate",
        f"model={workspace.model}",
        f"seconds={seconds}",
        f"sampling.seed={SEED}",
        "sampling=top_only",
        *workspace.song_overrides,
    )


@pytest.fixture(scope="module")
def whole(workspace: Workspace, sketch: Path) -> Path:
    """The sketch with its lower levels sampled."""
    return workspace.run("whole", "upsample", sketch.name)


def codes(run: Path) -> dict[int, Codes]:
    return dict(read_codes(run / "codes/sample_0.npz").levels)


def test_a_sketch_has_the_top_level_alone(workspace: Workspace, sketch: Path) -> None:
    top = workspace.config.top
    assert codes(sketch).keys() == {top}
    manifest = json.loads((sketch / "manifest.json").read_text())
    assert [record["level"] for record in manifest["audio"]] == [top]
    assert manifest["status"] == "finished"


def test_upsample_makes_the_tokens_of_a_single_run(
    workspace: Workspace, seconds: float, sketch: Path, whole: Path
) -> None:
    top, found = workspace.config.top, codes(whole)
    np.testing.assert_array_equal(found[top], codes(sketch)[top])
    at_once = workspace.python().generate(song(workspace.config), seconds=seconds, seed=SEED)
    assert found.keys() == at_once.codes.keys()
    for level, tokens in found.items():
        np.testing.assert_array_equal(tokens, at_once.codes[level][0])


@pytest.mark.parametrize("keep", [None, 0.05], ids=["whole", "cut"])
def test_continue_keeps_the_existing_tokens(
    workspace: Workspace, seconds: float, whole: Path, keep: float | None
) -> None:
    longer, before = round(seconds + 0.03, 3), codes(whole)
    cut = () if keep is None else (f"source.keep_seconds={keep}",)
    found = codes(workspace.run(f"longer-{keep}", "continue", whole.name, f"seconds={longer}", *cut))
    hops, rate = workspace.config.vqvae.hops, workspace.config.vqvae.sample_rate
    kept = len(before[workspace.config.top]) if keep is None else int(keep * rate) // hops[-1]
    start = {level: tokens[: kept * hops[-1] // hops[level]] for level, tokens in before.items()}
    for level, tokens in found.items():
        assert len(tokens) == int(longer * rate) // hops[-1] * hops[-1] // hops[level]
        np.testing.assert_array_equal(tokens[: len(start[level])], start[level])
    expected = workspace.python().generate(song(workspace.config), seconds=longer, seed=SEED, start=start)
    for level, tokens in found.items():
        np.testing.assert_array_equal(tokens, expected.codes[level][0])


def test_encode_and_decode(workspace: Workspace, sketch: Path) -> None:
    """Sound to codes to sound, by two commands and in Python; of 16 bits, the last may differ."""
    vqvae, python = workspace.config.vqvae, workspace.python()
    level = workspace.config.top - 1
    workspace.jukebox("encode", f"model={workspace.model}", f"audio=['{clip()}']", "seconds=0.3", "folder=codes")
    [file] = (workspace.work / "codes").glob("*.npz")
    found = read_codes(file).levels
    sound = read_audio(clip(), rate=vqvae.sample_rate, seconds=0.3)
    expected = python.encode(sound[: len(sound) // vqvae.hops[-1] * vqvae.hops[-1]])
    assert found.keys() == expected.keys()
    for each, tokens in expected.items():
        np.testing.assert_array_equal(found[each], tokens)
    workspace.jukebox(
        "decode", f"model={workspace.model}", f"codes=['{file}']", f"level={level}", "folder=sound", "output=flac"
    )
    [heard] = (workspace.work / "sound").glob("*.flac")
    written, rate = soundfile.read(heard, dtype="float32")
    assert rate == vqvae.sample_rate
    np.testing.assert_allclose(written, python.decode(expected[level], level).clip(-1, 1), atol=1.01 / 2**15)
    assert read_tags(heard)["title"] == heard.stem
