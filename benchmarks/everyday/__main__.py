"""What a user waits for: a command's start and end, a cached answer, small models beside busy programs, a stop.

Every measurement is a process of its own; the kinds alternate, round by round. ``python -m benchmarks.everyday
--rounds 5`` prints medians with their spread (10th to 90th percentile over the median), and JSON last. CPU seconds are
given beside the wall's: they say what a figure of a busy machine would be on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.full_size import machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND = [sys.executable, "-m", "pipelines.cli.main", "generate"]
SKETCH = ["seconds=4", "sampling=top_only"]
PARTS = ("start", "neighbours", "stop")
BUSY = "while True: pass"
MINI = """
import sys, time
from jukebox_core import load_model
from jukebox_core.runtime.config import HardwareConfig
model = load_model("mini", hardware=HardwareConfig(device="cpu", threads=int(sys.argv[1])))
model.generate(seconds=1.5)
began, worked = time.perf_counter(), time.process_time()
model.generate(seconds=float(sys.argv[2]))
print(time.perf_counter() - began, time.process_time() - worked)
"""


def environment(folder: Path) -> dict[str, str]:
    """Returns the environment without the user's variables of Prefect and of this project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
    return kept | {"PYTHONPATH": str(Path.cwd()), "JUKEBOX_WEIGHTS": str(folder / "weights")}


def sketch(folder: Path) -> dict[str, float]:
    """Runs a command to its end; returns the seconds until its first window and until its end, and CPU seconds.

    Those of the server that records it are not among them.
    """
    before, began, first = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), float("nan")
    with subprocess.Popen(
        [*COMMAND, *SKETCH],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "level 2 is done" in line:  # the sketch has one window, and a level a line
                first = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"the command failed with status {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"first_window_s": first, "end_s": time.perf_counter() - began, "cpu_s": spent}


def start(scratch: Path, rounds: int) -> dict[str, list[float]]:
    """Returns the figures of new runs and of cached answers, no server running, in turns."""
    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        folder = scratch / f"start-{number}"
        folder.mkdir()
        found = sketch(folder)
        wait_until_gone(folder)  # the server that records it
        cached = sketch(folder)
        found |= {"cached_s": cached["end_s"], "cached_cpu_s": cached["cpu_s"]}
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
    return figures


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Runs so many programs that each keep a core busy."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def mini(threads: int, seconds: float, busy: int) -> tuple[float, float]:
    """Returns the seconds, and the CPU seconds, in which the embedded model makes music beside busy programs."""
    command = [sys.executable, "-c", MINI, str(threads), str(seconds)]
    with busy_programs(busy):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, spent = map(float, done.stdout.split()[-2:])
    return wall, spent


def neighbours(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Returns the times of the embedded model by threads and busy programs, as ratios to one quiet thread, in turns."""
    cores = os.cpu_count() or 1
    cases = [(threads, busy) for busy in (0, 1, 2) for threads in sorted({1, cores})]
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        times = {case: mini(case[0], seconds, case[1]) for case in cases}
        one = times[1, 0][0]
        figures.setdefault("quiet_s", []).append(one)
        figures.setdefault("quiet_cpu_s", []).append(times[1, 0][1])
        for (threads, busy), (wall, _) in times.items():
            figures.setdefault(f"threads_{threads}_busy_{busy}", []).append(wall / one)
    return figures


def stop(scratch: Path, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds from a signal to the whole group of a command that samples until it has ended."""
    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            folder = scratch / f"stop-{number}-{name}"
            folder.mkdir()
            with subprocess.Popen(
                [*COMMAND, "seconds=30", "hardware.engine=eager"],
                cwd=folder,
                env=environment(folder),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as process:
                assert process.stderr is not None
                while "loading mini" not in (line := process.stderr.readline()) and line:
                    pass
                time.sleep(2)
                began = time.perf_counter()
                os.killpg(process.pid, getattr(signal, name))
                lines = process.stderr.read().splitlines()
                process.wait()
            figures.setdefault(f"{name}_s", []).append(time.perf_counter() - began)
            figures.setdefault(f"{name}_lines", []).append(len([line for line in lines if "jukebox:" in line]))
            wait_until_gone(folder)
    return figures


def wait_until_gone(folder: Path) -> None:
    """Waits until no process names the folder on its command line: a server records the command before it."""
    until = time.monotonic() + 180
    while time.monotonic() < until and any(str(folder) in " ".join(_command(each)) for each in psutil.process_iter()):
        time.sleep(0.5)


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return ()


def summary(values: Sequence[float]) -> dict[str, float]:
    """Returns the median, and the spread as a share of it."""
    middle = median(values)
    ends = quantiles(values, n=10) if len(values) > 1 else [middle, middle]
    return {"median": round(middle, 3), "spread": round((ends[-1] - ends[0]) / middle, 3) if middle else 0.0}


def main() -> None:
    """Measures the parts that the command line names; prints a table, and JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.everyday", description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of music beside busy programs")
    given = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for part in given.parts:
            if part == "neighbours":
                found = neighbours(given.rounds, given.seconds)
            else:
                found = {"start": start, "stop": stop}[part](Path(folder), given.rounds)
            figures[part] = {name: summary(values) for name, values in found.items()}
            for name, figure in figures[part].items():
                print(f"{part:<12} {name:<24} {figure['median']:8.2f}   spread {figure['spread']:.0%}", flush=True)
    print(json.dumps({"machine": machine(), "rounds": given.rounds, "figures": figures}))


if __name__ == "__main__":
    main()
