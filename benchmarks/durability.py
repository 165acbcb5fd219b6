"""Overhead of checkpointing runs, and the time to recover after a kill: ``python -m benchmarks.durability``.

Everything is measured on a small untrained model, on disk. Only the plan of a long song uses the sizes of a released
model: plans are integers, and need no weights. Prints a table, and one line of JSON last.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from jukebox_core.base.hashing import digest
from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.sampling import windows
from jukebox_core.sampling.snapshots import Snapshots
from jukebox_core.sampling.windows import FlushPolicy
from jukebox_core.store.store import TokenStore
from pipelines.execution.planning import plan_run
from pipelines.runs.folder import RunFolder, open_run
from pipelines.runs.takes import note_plan
from pipelines.settings.compose import GENERATE, compose, dump
from stages.fetch import fetch_vocabularies, fetch_weights
from stages.sampling import sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from jukebox_core.protocols import SongPlan
    from pipelines.settings.generate import Settings
    from stages.handles import FileHandle

STORE_SECONDS = 10.0  # interval of stores, by default
OFTEN = 20  # factor by which tokens are stored more often here, to measure the cost within seconds
LEVELS = {"level_0": 256, "level_1": 128, "level_2": 64}  # contexts of a model that samples a song in seconds
TINY = [
    "seconds=1",
    "model.network.priors.level_2.timing.min_seconds=0.5",
    *(f"model.network.priors.{level}.context={context}" for level, context in LEVELS.items()),
    *(f"model.network.priors.{level}.transformer.width=32" for level in LEVELS),
    "model.files.weight_sources=[seed:7]",
    *(f"model.files.weights.{role}.{what}=null" for role in ("vqvae", *LEVELS) for what in ("bytes", "sha256")),
]
LONG = ["model=5b_lyrics", "seconds=600", "sampling.n_samples=16", "weights.offline=true"]


def _songs(settings: Settings, weights: Mapping[str, FileHandle]) -> Sequence[SongPlan]:
    """Returns the plan of each song of a run."""
    vocabularies = fetch_vocabularies(settings.model, settings.weights)
    conditioning = settings.family.condition(settings, {role: each.read() for role, each in vocabularies.items()})
    return plan_run(settings, {}, conditioning, {role: each.identity for role, each in weights.items()}).songs


def storing(folder: Path, samples: int = 4, seconds: float = 12.0) -> dict[str, float]:
    """Returns the overhead of storing tokens while sampling: time per store, and the share at default intervals."""
    settings = compose(GENERATE, ["model=mini", "seconds=60", f"sampling.n_samples={samples}", "hardware.threads=1"])
    model, spent = settings.model, {"store": 0.0, "stores": 0, "snapshot": 0.0, "snapshots": 0}
    weights = fetch_weights(model, settings.weights, settings.roles)
    songs = _songs(settings, weights)

    class TimedStore(TokenStore):
        @contextmanager
        def parallel_writes(self) -> Iterator[None]:
            began = time.perf_counter()
            with super().parallel_writes():
                yield
            spent["store"] += time.perf_counter() - began
            spent["stores"] += 1

    class TimedSnapshots(Snapshots):
        def write(self, saved: Mapping[str, torch.Tensor], tokens: NDArray[np.int32]) -> None:
            began = time.perf_counter()
            super().write(saved, tokens)
            spent["snapshot"] += time.perf_counter() - began
            spent["snapshots"] += 1

    store = TimedStore(folder / "tokens")
    job = sample.SamplingJob(
        family=model.family,
        config=model.config,
        weights=weights,
        sampling=settings.sampling,
        hardware=settings.hardware,
        store=store.uri,
        policy=FlushPolicy(
            tokens=10**9,
            seconds=STORE_SECONDS / OFTEN,
            scratch=str(folder / "scratch"),
            snapshot_share=settings.storage.snapshot_share,
        ),
    )
    began = time.perf_counter()
    with (
        mock.patch.object(sample, "open_store", return_value=store),
        mock.patch.object(windows, "Snapshots", TimedSnapshots),
    ):
        for nodes in zip(*(song.level(model.config.top) for song in songs), strict=True):
            sample.sample_shard(job, nodes)
            if time.perf_counter() - began > seconds:
                break
    store_s, snapshot_s = (spent[what] / max(spent[f"{what}s"], 1) for what in ("store", "snapshot"))
    # At default intervals: a snapshot follows a store, and not before its cost is within its share of the time.
    snapshots = snapshot_s / max(STORE_SECONDS, snapshot_s / settings.storage.snapshot_share)
    return {
        "store_ms": 1e3 * store_s,
        "stores": spent["stores"],
        "snapshot_ms": 1e3 * snapshot_s,
        "share_stores": store_s / STORE_SECONDS,
        "share_snapshots": snapshots,
        "share": store_s / STORE_SECONDS + snapshots,
    }


def throughput(folder: Path, windows: int = 320, tokens: int = 8192, together: int = 16) -> dict[str, float]:
    """Returns the throughput of windows of a released model's size: sealed with fsync, and read with verification."""
    store = TokenStore(folder / "windows")
    values = np.arange(tokens, dtype=np.int32) % 2048
    keys = [digest(number) for number in range(windows)]
    began = time.perf_counter()
    for start in range(0, windows, together):
        with store.parallel_writes():
            for key in keys[start : start + together]:
                store.seal(key, values, first=0, causes={"key": key})
    sealed = time.perf_counter()
    for key in keys:
        store.read(key)
    read = time.perf_counter()
    size = 4 * tokens * windows / 1e6
    return {
        "seal_windows_per_s": windows / (sealed - began),
        "seal_mb_per_s": size / (sealed - began),
        "read_windows_per_s": windows / (read - sealed),
        "read_mb_per_s": size / (read - sealed),
    }


def long_song(folder: Path) -> dict[str, float]:
    """Returns the seconds to plan, record, list and resume ten minutes of sixteen songs."""
    settings = compose(GENERATE, [*LONG, f"storage.root={folder}"])
    song = SongLabels(artist_id=0, genre_ids=(0,), lyric_tokens=(), total_length=settings.length, offset=0)
    labels = [(song,) * len(settings.config.hops)] * settings.sampling.n_samples
    weights = {role: role for role in settings.roles}
    began = time.perf_counter()
    plan = plan_run(settings, {}, labels, weights)
    planned = time.perf_counter()
    run = open_run(settings, dump(settings))
    note_plan(settings, run, plan.start, plan.takes)
    noted = time.perf_counter()
    run.update(status="stopped")
    sealed = plan.nodes[: len(plan.nodes) // 2]  # names are enough for a listing: sealed windows are read later
    for node in sealed:
        path = Path(settings.storage.tokens) / "windows" / node.key[:2] / f"{node.key}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    started = time.perf_counter()
    left = plan_run(settings, {}, labels, weights).missing(TokenStore(settings.storage.tokens))
    listed = time.perf_counter()
    assert len(left) == len(plan.nodes) - len(sealed)
    return {
        "windows": len(plan.nodes),
        "plan_s": planned - began,
        "note_s": noted - planned,
        "manifest_mb": run.manifest_path.stat().st_size / 1e6,
        "list_s": _seconds("runs", "list", f"--root={folder}"),
        "show_s": _seconds("runs", "show", run.name, f"--root={folder}"),
        "resume_s": planned - began + listed - started,  # of a new process: the plan, and one listing of the store
    }


def killed(folder: Path) -> dict[str, float]:
    """Returns the seconds from SIGKILL to sampling again, by the command line, and to the first audio in both orders.

    No Prefect server is running: each command starts its own, which is most of the time.
    """
    orders = ("by_level", "wavefront")
    command = [
        *("generate", "--multirun", "model=mini", *TINY, f"runner.schedule={','.join(orders)}"),
        *("runner.preview_seconds=0", f"storage.root={folder}/${{runner.schedule}}", "run.name=run"),
        *("hardware.threads=1", "storage.flush_tokens=32", "output.report=false"),
    ]  # the first song is killed, right after its start
    log = folder / orders[0] / "run" / "run.log"
    began = time.perf_counter()
    with _jukebox(*command) as process:
        start = _wait(process, log, r"store|window", began, store=folder / orders[0] / ".store")
        process.send_signal(signal.SIGKILL)
    dead = time.perf_counter()
    with _jukebox(*command) as process:
        again = _wait(process, log, "resumed at", dead)
        process.wait()
        if process.returncode:
            raise SystemExit(log.read_text())
    first = {order: RunFolder(folder / order / "run").manifest()["first_sound_seconds"]["0"] for order in orders}
    whole = {order: _sampling_seconds(folder / order / "run") for order in orders}
    return {
        "start_s": start,
        "kill_to_sampling_s": again,
        **{f"first_sound_{order}_s": seconds for order, seconds in first.items()},
        **{f"song_{order}_s": seconds for order, seconds in whole.items()},
    }


def _sampling_seconds(run: Path) -> float:
    timings = RunFolder(run).manifest()["timings"]
    return float(sum(timing["seconds"] for timing in timings if timing["stage"] == "sample"))


def _seconds(*arguments: str) -> float:
    began = time.perf_counter()
    with _jukebox(*arguments) as process:
        if process.wait():
            raise SystemExit(f"jukebox {' '.join(arguments)} failed")
    return time.perf_counter() - began


@contextmanager
def _jukebox(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [sys.executable, "-m", "pipelines.cli.main", *arguments]
    with subprocess.Popen(command, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield process


def _wait(process: subprocess.Popen[bytes], log: Path, pattern: str, since: float, store: Path | None = None) -> float:
    """Waits until the run's log matches `pattern`, or its store has a partial window; returns the seconds."""
    while process.poll() is None:
        if store is None and log.exists() and re.search(pattern, log.read_text()):
            return time.perf_counter() - since
        if store is not None and any(store.glob("windows/*/*.part.safetensors")):
            return time.perf_counter() - since
        time.sleep(0.02)
    raise SystemExit(f"the run ended with status {process.returncode} before it sampled; see {log}")


def run() -> dict[str, Any]:
    """Measures everything in a temporary folder; returns figures by subject."""
    with tempfile.TemporaryDirectory(prefix="jukebox-durability-") as name:
        folder = Path(name)
        return {
            "benchmark": "durability",
            "storing": storing(folder),
            "store": throughput(folder),
            "long_song": long_song(folder / "long"),
            "killed": killed(folder / "killed"),
        }


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    cost, store, song, run = (result[name] for name in ("storing", "store", "long_song", "killed"))
    rows = [
        (
            "storing, share of sampling time",
            f"{cost['share']:.2%}, one store every {STORE_SECONDS:g} s (goal: below 1 %)",
        ),
        ("  of that, tokens", f"{cost['share_stores']:.3%}: {cost['store_ms']:.1f} ms per store of 4 songs"),
        ("  of that, snapshots of caches", f"{cost['share_snapshots']:.3%}: {cost['snapshot_ms']:.1f} ms per snapshot"),
        ("windows of 8192 tokens, sealed", f"{store['seal_windows_per_s']:,.0f}/s, {store['seal_mb_per_s']:,.0f} MB/s"),
        ("windows of 8192 tokens, read", f"{store['read_windows_per_s']:,.0f}/s, {store['read_mb_per_s']:,.0f} MB/s"),
        ("10 minutes, 16 samples", f"{song['windows']:,} windows, manifest {song['manifest_mb']:.1f} MB"),
        ("  planned; written down", f"{song['plan_s']:.1f} s; {song['note_s']:.1f} s"),
        ("  runs list; runs show", f"{song['list_s']:.1f} s; {song['show_s']:.1f} s"),
        ("  resume: find the missing windows", f"{song['resume_s']:.1f} s"),
        ("from SIGKILL to sampling again", f"{run['kill_to_sampling_s']:.1f} s (first start {run['start_s']:.1f} s)"),
        ("first final sound, by_level", f"{run['first_sound_by_level_s']:.1f} s of {run['song_by_level_s']:.1f} s"),
        ("first final sound, wavefront", f"{run['first_sound_wavefront_s']:.1f} s of {run['song_wavefront_s']:.1f} s"),
    ]
    return "\n".join(f"{what:<36} {figure}" for what, figure in rows)


def main() -> None:
    """Measures and prints."""
    result = run()
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
