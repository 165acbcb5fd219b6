"""The steps of docs/Dockerfile, run without a container engine: each stage in a root of its own, by mounts and chroot.

The base image is stood in for by this machine's system and an empty Python environment; packages come from a package
index, as in a build, but this program's large dependencies from the environment that the tests run in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.models.small_entries import CONTENT, PATHS, entry
from tests.helpers.servers.servers import Site, serving
from tests.helpers.wheels import ROOT, copy_sources, install, installer, virtual_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Everything of the machine appears below the new root, apart from the files of the stage.
ENTER = """
root=$1; shift
for each in /*; do
  inside=$root$each
  [ -e "$inside" ] || [ -L "$inside" ] && continue
  if [ -L "$each" ]; then cp -P "$each" "$inside"; elif [ -d "$each" ]; then
    mkdir "$inside"; mount --rbind "$each" "$inside" 2>/dev/null || rmdir "$inside"
  fi
done
exec chroot "$root" "$@"
"""


@dataclass
class Stage:
    """A stage of the build: its root, and the settings of its image."""

    root: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    entrypoint: str = ""

    def run(self, command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the shell in this stage; nothing of the mounts is left afterwards."""
        keep = {name: text for name, text in os.environ.items() if not name.startswith(("JUKEBOX_", "HF_", "PYTHON"))}
        inherited = keep | {"PATH": f"{self.python.parent}:{SYSTEM_PATH}", "NO_PROXY": "127.0.0.1"}
        inside = ["/bin/sh", "-c", f"cd {self.folder} && {command}"]
        made = {path.name for path in self.root.iterdir()}
        try:
            return subprocess.run(
                [*NAMESPACE, "sh", "-c", ENTER, "enter", str(self.root), *inside],
                env=inherited | self.environment | self.arguments | more,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            for path in self.root.iterdir():
                if path.name not in made and not path.is_symlink() and not any(path.iterdir()):
                    path.rmdir()


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The name and the arguments of each instruction, on one line."""
    lines = "\n".join(line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return [
        (word, " ".join(rest.split()))
        for word, _, rest in (each.partition(" ") for each in re.split(r"(?<!\\)\n", lines))
        for rest in [rest.replace("\\\n", " ")]
    ]


@dataclass
class Build:
    """A build of docs/Dockerfile with arguments, instruction by instruction."""

    context: Path
    work: Path
    arguments: dict[str, str]
    stages: dict[str, Stage] = field(default_factory=dict)

    def __call__(self) -> Stage:
        """The last stage; raises CalledProcessError where a step fails."""
        for word, given in instructions((self.context / "docs/Dockerfile").read_text()):
            getattr(self, f"_{word.lower()}")(given)
        return self.stage

    @property
    def stage(self) -> Stage:
        return list(self.stages.values())[-1]

    def _from(self, given: str) -> None:
        assert given.startswith("python:3.")
        name = given.partition(" AS ")[2] or "last"
        # Outside the root: each stage has its own packages, and every root shows them under the same path.
        python = virtual_environment(self.work / f"{name}.venv", seen=self._seen if name == "last" else None)
        pip = python.with_name("pip")
        words = " ".join(installer(python))
        pip.write_text(f'#!/bin/sh\n[ "$1 $2" = "install --no-cache-dir" ] && shift 2 && exec {words} --no-deps "$@"\n')
        pip.chmod(0o755)
        (self.work / name).mkdir()
        self.stages[name] = Stage(self.work / name, python)

    @property
    def _seen(self) -> Path:
        return Path(sysconfig.get_path("purelib"))

    def _arg(self, given: str) -> None:
        name, _, default = given.partition("=")
        self.stage.arguments[name] = self.arguments.get(name, default)

    def _env(self, given: str) -> None:
        self.stage.environment |= dict(pair.split("=", 1) for pair in given.split())

    def _workdir(self, given: str) -> None:
        self.stage.folder = given

    def _entrypoint(self, given: str) -> None:
        self.stage.entrypoint = " ".join(re.findall(r'"([^"]*)"', given))

    def _copy(self, given: str) -> None:
        *options, source, target = given.split()
        base = self.stages[options[0].removeprefix("--from=")].root if options else self.context
        shutil.copytree(base / source.lstrip("/"), self.stage.root / target.lstrip("/"), dirs_exist_ok=True)

    def _run(self, given: str) -> None:
        command = given
        while option := re.match(r"--mount=type=cache,target=(/\S+) ", command):
            (self.stage.root / option[1].lstrip("/")).mkdir(exist_ok=True)
            command = command[option.end() :]
        done = self.stage.run(command)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({**CONTENT, "ids/a.txt": b"x;0\n", "ids/g.txt": b"y;0\n"}) as running:
        yield running


@pytest.fixture
def context(tmp_path: Path, site: Site) -> Path:
    """The context of a build: the sources, with a model of small files."""
    if subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare may not make a mount namespace here")
    folder = copy_sources(tmp_path / "context")
    shutil.copytree(ROOT / "docs", folder / "docs")
    entry(site, folder / "conf/model")
    install(virtual_environment(tmp_path / "probe"), "PyYAML>=6")  # skips where there is no package index
    return folder


def test_instructions_are_read_over_several_lines() -> None:
    read = instructions("# a\nFROM a AS b\nRUN one \\\n    # why\n  && two\n\nENV A=1 B=2\n")
    assert read == [("FROM", "a AS b"), ("RUN", "one && two"), ("ENV", "A=1 B=2")]


@pytest.mark.slow
@pytest.mark.endurance
def test_a_model_is_baked_in_and_used_without_network(context: Path, tmp_path: Path, site: Site) -> None:
    (tmp_path / "refused").mkdir()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        Build(context, tmp_path / "refused", {"MODEL": "mine"})()
    assert "terms that were not acknowledged yet" in caught.value.stderr
    assert not site.requests

    (tmp_path / "built").mkdir()
    image = Build(context, tmp_path / "built", {"MODEL": "mine", "ACCEPT_LICENCE": "yes"})()
    asked = len(site.requests)
    assert not list(image.root.rglob("*.lock"))
    baked = {path.name: path.read_bytes() for path in (image.root / "models").rglob("*.pth.tar")}
    assert baked == {Path(path).name: CONTENT[path] for path in PATHS.values()}

    for command in ("models verify mine", "models list", "generate --cfg job model=mine seconds=4"):
        done = image.run(f"{image.entrypoint} {command}")
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "verify" in command:
            assert done.stdout.count("ok     /models/") == 6
    assert len(site.requests) == asked
