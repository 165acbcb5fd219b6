"""Offline means that no socket is opened: watched from inside, and traced where there is no network, not even loopback.

`jukebox generate` itself is not covered: Prefect's own server is on loopback, whatever the settings of weights.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ISOLATED = ("unshare", "--user", "--map-root-user", "--net")

WATCHED = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
"""

MISSING = (
    WATCHED
    + """
from jukebox_core.errors import DownloadError
from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from jukebox_core.models.presets import load_preset
from jukebox_core.models.config import WeightsConfig
model = load_preset("1b_lyrics")
weights = WeightsConfig(folder=sys.argv[1], offline=sys.argv[2] == "set", mirrors=("s3://b/m",))
try:
    obtain_weights(model, weights)
except DownloadError as error:
    assert "ids/" not in str(error)
try:
    obtain_vocabularies(model.files, weights)  # the first request: it lists the files of the next one too
except DownloadError as error:
    print(error)
sys.exit(f"sockets: {opened}" if opened else 0)
"""
)

SONG = (
    WATCHED
    + """
import jukebox_core as jukebox
model = jukebox.load_model("mini", folder=sys.argv[1], offline=True)
how = jukebox.SamplingConfig(stop_level=2, seed=1)
song = jukebox.Song(artist="music box", genre="waltz", lyrics="over the water")
music = model.generate(song, seconds=2, sampling=how, start={2: [number % 512 for number in range(320)]})
print(music.codes[2].shape, music.audio.shape)
sys.exit(f"sockets: {opened}" if opened else 0)
"""
)


def need(*programs: str) -> None:
    """Skips the test if a program is missing on this machine."""
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    if subprocess.run([*ISOLATED, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare may not make a network namespace here")


def isolated(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command without any network, and checks that neither it nor a child of it opened a socket."""
    need("unshare", "strace")
    trace = tmp_path / "trace"
    tracing = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=socket,connect",
        "-e",
        "signal=none",
        "-o",
        str(trace),
    ]
    done = subprocess.run(
        [*ISOLATED, *tracing, *command],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "no_proxy": "*"},
    )
    if "ptrace" in done.stderr and not trace.read_text():
        pytest.skip("strace may not trace here")
    assert trace.read_text() == ""
    return done


def test_the_trace_would_show_a_socket_and_loopback_is_down(tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    with pytest.raises(AssertionError, match="AF_INET"):
        isolated(tmp_path, sys.executable, "-c", code)
    assert "ENETUNREACH" in (tmp_path / "trace").read_text()


def is_listed(folder: Path, message: str) -> None:
    assert "offline, and 8 files are not on this machine; put them at these paths" in message
    for file in (
        "5b/vqvae.pth.tar (7,726,329 bytes)",
        "1b_lyrics/prior_level_2.pth.tar (about 3.77 GB)",
        "ids/v3_genre_ids.txt",
    ):
        assert f"{folder}/{file}" in message


@pytest.mark.parametrize("how", ["set", "environment"])
def test_what_is_missing_is_listed(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "environment" else "0")
    command = [sys.executable, "-c", MISSING, str(tmp_path / "weights"), how]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    is_listed(tmp_path / "weights", done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["set", "environment"])
def test_what_is_missing_is_listed_without_a_socket(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "environment" else "0")
    done = isolated(tmp_path, sys.executable, "-c", MISSING, str(tmp_path / "weights"), how)
    assert done.returncode == 0, done.stderr
    is_listed(tmp_path / "weights", done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["list"], ["fetch", "mini"], ["fetch", "small"], ["verify"], ["path", "small"]], ids=" ".join
)
def test_the_commands_open_no_socket(tmp_path: Path, words: list[str]) -> None:
    overrides = [f"weights.folder={tmp_path / 'weights'}", "weights.offline=true", "weights.elsewhere=[]"]
    done = isolated(tmp_path, sys.executable, "-m", "pipelines.cli.main", "models", *words, *overrides)
    assert done.returncode == int("small" in words), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_song_is_made_without_a_socket(tmp_path: Path) -> None:
    done = isolated(tmp_path, sys.executable, "-c", SONG, str(tmp_path / "weights"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, ")


@pytest.mark.slow
def test_a_run_without_loopback_is_one_clear_error(tmp_path: Path) -> None:
    need("unshare")
    overrides = ["seconds=3", "weights.offline=true", f"weights.folder={tmp_path / 'weights'}"]
    command = [*ISOLATED, sys.executable, "-m", "pipelines.cli.main", "generate", *overrides]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "127.0.0.1 cannot be reached (Network is unreachable)" in done.stderr
    assert "Traceback" not in done.stderr
