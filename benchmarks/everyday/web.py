"""How soon `jukebox web` answers: click to sound, pages on loopback, and a list of a thousand runs.

The program runs as people start it, on CPU. *Click to sound* is what a browser does: a form checks the song while it is
filled in; then the click asks for it, events say when there is sound, and the sound is fetched.
``python -m benchmarks.everyday.web --help``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND = Path(sys.executable).with_name("jukebox")
PAGES = ("/", "/queue", "/models", "/help")
SECONDS = 600.0  # that anything may take


@contextmanager
def served(folder: Path) -> Iterator[httpx.Client]:
    """A client of `jukebox web` in a folder, whose worker is ready."""
    process = subprocess.Popen([COMMAND, "web", "--port", "0"], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+?:\d+", process.stderr.readline())
        assert found, "it did not start"
        with httpx.Client(base_url=found[0], timeout=SECONDS, trust_env=False) as client:
            while not client.get("/api/jobs").json()["worker"]["ready"]:
                time.sleep(0.1)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def click_to_sound(client: httpx.Client, model: str, seconds: float, seed: int) -> dict[str, float]:
    """Makes a sketch; returns the seconds from the click until each step."""
    body = {"model": model, "seconds": seconds, "seed": seed, "lyrics": "light the lantern, light the way"}
    client.post("/api/songs?check=true", json=body).raise_for_status()
    with client.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        while "hello" not in next(lines):
            pass
        began, steps = time.perf_counter(), {}

        def passed(step: str) -> None:
            steps.setdefault(step, round(time.perf_counter() - began, 3))

        made = client.post("/api/songs", json=body).json()
        passed("answered")
        kind = ""
        for line in lines:
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind in ("job", "progress", "runs"):
                _heard(kind, json.loads(line.removeprefix("data: ")), passed)
                if kind == "runs" and _sounds(client, made["run"]):
                    passed("sound")
                    break
    _finished(client, made["job"]["id"])
    return steps


def _heard(kind: str, data: dict[str, Any], passed: Any) -> None:
    if kind == "job" and data["status"] == "running":
        passed("begun")
    elif kind == "progress":
        passed("first_tokens")


def _sounds(client: httpx.Client, run: str) -> bool:
    """Fetches the sound of a run, if there is any yet."""
    found = client.get(f"/api/runs/{run}")
    if found.status_code != httpx.codes.OK:
        return False
    take = found.json()["takes"][0]
    if not (take["sounds"] or take.get("preview")):
        return False
    return bool(client.get(f"/api/runs/{run}/takes/0/audio").content)


def _finished(client: httpx.Client, job: str) -> None:
    while (found := client.get(f"/api/jobs/{job}").json())["status"] not in ("finished", "failed", "stopped"):
        time.sleep(0.05)
    assert found["status"] == "finished", found


def loads(client: httpx.Client, path: str) -> float:
    """Returns the seconds that an address takes, the median of five."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        took.append(time.perf_counter() - began)
    return round(median(took), 4)


def run(model: str, seconds: float, rounds: int, runs: int) -> dict[str, Any]:
    """Measures everything; returns the figures, in seconds."""
    with tempfile.TemporaryDirectory(prefix="web-") as scratch:
        folder = Path(scratch)
        with served(folder) as client:
            first = click_to_sound(client, model, seconds, 1)
            later = [click_to_sound(client, model, seconds, 2 + index) for index in range(rounds)]
        one = min((folder / "outputs").glob("*/manifest.json")).parent
        for number in range(runs):
            shutil.copytree(one, one.with_name(f"{one.name}-{number}"), ignore=shutil.ignore_patterns("audio"))
        with served(folder) as client:
            began = time.perf_counter()
            listed = len(client.get("/api/runs").json()["runs"])
            first_list = round(time.perf_counter() - began, 4)
            pages = {path: loads(client, path) for path in (*PAGES, "/api/runs", "/api/jobs")}
    return {
        "benchmark": "web",
        "model": model,
        "seconds": seconds,
        "first_click": first,
        "later_clicks": {step: median(each[step] for each in later) for step in later[0]},
        "runs": listed,
        "first_list_s": first_list,
        "pages_s": pages,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    lines = [f"{'seconds after the click':26} {'first song':>10} {'later':>10}"]
    lines += [
        f"{step:26} {result['first_click'][step]:9.2f}s {result['later_clicks'][step]:9.2f}s"
        for step in result["later_clicks"]
    ]
    lines += [f"with {result['runs']} runs: {path:14} {took:10.3f}s" for path, took in result["pages_s"].items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.everyday.web", description=run.__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seconds", type=float, default=6.0, help="of the sketch")
    parser.add_argument("--rounds", type=int, default=3, help="songs after the first one")
    parser.add_argument("--runs", type=int, default=1000, help="in the tree")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
