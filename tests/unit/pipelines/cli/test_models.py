"""``jukebox models`` and the standalone fetch, and a user's own models fetched by them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jukebox_core import models
from pipelines.cli.main import main
from tests.helpers.models.small_entries import CONTENT, PATHS, checkpoint, config, entry
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("plain_fetches")


def test_models_of_ones_own_with_the_same_paths_never_meet(tmp_path: Path) -> None:
    theirs, ids = tmp_path / "cache", {"ids/a.txt": b"x;0\n", "ids/g.txt": b"y;0\n"}
    (theirs / "5b").mkdir(parents=True)
    (theirs / PATHS["level_0"]).write_bytes(checkpoint(9))  # a released file, as its path would have it
    weights, contents = config(tmp_path, elsewhere=(str(theirs),), pickles="keep"), [5, 6]
    with (
        serving({path: checkpoint(contents[0]) for path in CONTENT} | ids) as one,
        serving({path: checkpoint(contents[1]) for path in CONTENT} | ids) as other,
    ):
        bytes_ = {role: {"path": path, "bytes": len(CONTENT[path]), "sha256": None} for role, path in PATHS.items()}
        entries = []
        for name, site in (("one", one), ("other", other)):
            (tmp_path / name).mkdir()
            entries.append(str(entry(site, tmp_path / name, weights=bytes_)))
        mirrored = replace(weights, mirrors=(other.url,))  # of released files; not of files that only one.url has
        for path, number in zip(entries, contents, strict=True):
            models.fetch([path], mirrored)
            assert all(
                file.read_bytes() == checkpoint(number)
                for role, file in models.paths(path, weights).items()
                if role in PATHS
            )
    stick, there = tmp_path / "stick", config(tmp_path / "there", offline=True)
    models.export(entries, stick, weights)
    for path, number in zip(entries, contents, strict=True):
        assert len(models.import_(stick, there, [path])) == 6
        assert models.paths(path, there)["level_0"].read_bytes() == checkpoint(number)


def test_a_file_that_an_earlier_version_shipped_is_replaced(tmp_path: Path) -> None:
    weights = config(tmp_path, offline=True)
    shipped = models.fetch(["mini"], weights)["mini/artists.txt"]
    now = shipped.read_bytes()
    shipped.write_bytes(now[::-1])
    assert models.fetch(["mini"], weights)["mini/artists.txt"].read_bytes() == now
    assert shipped.with_name("artists.txt.damaged").read_bytes() == now[::-1]


def command(tmp_path: Path, *arguments: str) -> int:
    return main(["models", *arguments, f"weights.folder={tmp_path / 'weights'}", "weights.elsewhere=[]"])


def test_the_commands(site: Site, tmp_path: Path, small_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "Usage: jukebox models [OPTIONS] COMMAND [NAMES] [OVERRIDES]" in capsys.readouterr().out
    assert command(tmp_path, "list") == 0
    assert "1b_lyrics (small) about 11.63 GB no" in " ".join(capsys.readouterr().out.split())
    assert command(tmp_path, "fetch", small_model) == 2
    assert "weights.accept_licence=true" in capsys.readouterr().err
    assert command(tmp_path, "fetch", small_model, "weights.accept_licence=true") == 0
    assert str(tmp_path / "weights/5b/vqvae.pth.tar") in capsys.readouterr().out
    assert command(tmp_path, "path", small_model) == 0
    assert f"vqvae  {tmp_path}/weights/5b/vqvae.pth.tar" in capsys.readouterr().out
    assert command(tmp_path, "verify", small_model) == 0
    assert capsys.readouterr().out.count("ok     ") == 6
    assert command(tmp_path, "verify") == 0
    assert command(tmp_path, "export", str(tmp_path / "stick"), small_model) == 0
    assert command(tmp_path, "rm", small_model) == 0
    assert capsys.readouterr().out.count("removed  ") == 6
    assert command(tmp_path, "rm", small_model) == 0
    assert command(tmp_path, "verify", small_model) == 1
    assert command(tmp_path, "import", str(tmp_path / "stick"), small_model) == 0
    assert command(tmp_path, "verify", small_model) == 0
    capsys.readouterr()
    for arguments, message in (
        (
            ["lst"],
            "there is no command 'models lst'; choose one of list, fetch, verify, path, rm, export,",
        ),
        (["lst"], "closest: 'list'"),
        (["list", "5b"], "models list takes no names"),
        (["fetch"], "models fetch needs a name; `jukebox models fetch --help` shows how"),
        (["fetch", "--force"], "models fetch has no option --force"),
        (["fetch", "5c"], "model is '5c'"),
        (["list", "weights.ofline=true"], "closest: 'offline'"),
    ):
        assert command(tmp_path, *arguments) == 2
        assert message in capsys.readouterr().err


LIGHT = """
import sys
for name in ("torch", "hydra", "omegaconf", "prefect", "fsspec", "numpy", "pydantic"):
    sys.modules[name] = None
from jukebox_core.models.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_standalone_fetch_needs_no_torch_hydra_or_prefect(site: Site, tmp_path: Path, small_model: str) -> None:
    given = [sys.executable, "-c", LIGHT, small_model, "--folder", str(tmp_path / "image"), "--mirror", site.url]
    refused = subprocess.run(given, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "terms that were not acknowledged" in refused.stderr
    done = subprocess.run([*given, "--accept-licence"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [fetched] = (tmp_path / "image").rglob(PATHS["level_0"])
    assert fetched.read_bytes() == CONTENT[PATHS["level_0"]]


def test_the_commands_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from pipelines.cli.main import main; "
        f"main(['models', 'list', 'weights.folder={tmp_path}']); "
        "sys.exit(bool({'torch', 'prefect', 'hydra', 'omegaconf', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
