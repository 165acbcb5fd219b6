"""Twenty clients of `jukebox web` at once, while its worker is killed again and again: nothing is lost.

JUKEBOX_CROWD_SECONDS sets how long they stay: five minutes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.patience import patience
from tests.helpers.servers.web import Client, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(3600)]

CLIENTS, KILLS = 20, 10
SECONDS = float(os.environ.get("JUKEBOX_CROWD_SECONDS", "300"))
MEGABYTES = 80  # by which the server may grow after the first songs


class Visitor(threading.Thread):
    """A client that looks around, listens to events, and asks for songs, one at a time."""

    def __init__(self, address: str, process: Any, number: int, end: float) -> None:
        super().__init__(name=f"visitor {number}", daemon=True)
        self.client, self.end, self.number = Client(address, process), end, number
        self.choices = random.Random(number)
        self.asked: list[tuple[str, str]] = []  # job and run of each song
        self.failed: list[str] = []
        self.pages: list[float] = []  # seconds that a page took

    def run(self) -> None:
        """Until the end, one request after the other; a failure is kept for the test."""
        while time.monotonic() < self.end:
            try:
                self._turn()
            except Exception as error:
                self.failed.append(repr(error))
            time.sleep(self.choices.uniform(0.1, 1.5))

    def _turn(self) -> None:
        began = time.monotonic()
        with urllib.request.urlopen(f"{self.client.address}/", timeout=patience(60)) as page:
            assert b"<title>" in page.read()
        self.pages.append(time.monotonic() - began)
        known = self.client.ask("runs")["runs"]
        done = [run["name"] for run in known if run["status"] == "finished"]
        if done:
            run = self.choices.choice(done)
            assert self.client.ask(f"runs/{run}")["status"] == "finished"
            with urllib.request.urlopen(
                f"{self.client.address}/api/runs/{run}/takes/0/audio", timeout=patience(60)
            ) as sound:
                assert sound.read(4) in (b"fLaC", b"RIFF")
        if not self.asked or self.client.ask(f"jobs/{self.asked[-1][0]}")["status"] == "finished":
            seed = 1000 * self.number + len(self.asked)
            made = self.client.ask("songs", {"seconds": 2, "seed": seed, "artist": "music box"})
            self.asked.append((made["job"]["id"], made["run"]))
        with suppress(TimeoutError):
            self._listen()

    def _listen(self) -> None:
        with urllib.request.urlopen(f"{self.client.address}/api/events", timeout=1) as events:
            for line in events:
                if line.startswith(b"data:"):
                    json.loads(line[5:])
                    return


def megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(tmp_path_factory.mktemp("crowd")) as found:
        yield found


def test_twenty_clients_and_ten_killed_workers(client: Client, record_property: Any) -> None:
    began = time.monotonic()
    visitors = [Visitor(client.address, client.process, number, began + SECONDS) for number in range(CLIENTS)]
    for visitor in visitors:
        visitor.start()
    killed, sizes = 0, []
    for _ in range(KILLS):
        time.sleep(SECONDS / (KILLS + 1))
        sizes.append(megabytes(client.process.pid))
        worker = client.ask("jobs")["worker"]["pid"]
        if worker is not None:
            os.kill(worker, signal.SIGKILL)
            killed += 1
    for visitor in visitors:
        visitor.join(SECONDS + patience(120))
        assert not visitor.is_alive()
    assert not [failure for visitor in visitors for failure in visitor.failed]
    asked = [each for visitor in visitors for each in visitor.asked]
    over = Counter(client.finished(job)["status"] for job, _ in asked)
    found = [client.ask(f"runs/{run}") for _, run in asked]
    assert over == {"finished": len(asked)}
    assert {run["status"] for run in found} == {"finished"}
    assert len({run["name"] for run in found}) == len(asked)
    pages = sorted(each for visitor in visitors for each in visitor.pages)
    last = megabytes(client.process.pid)
    record_property(
        "figures",
        f"{CLIENTS} clients for {SECONDS:.0f} s, {killed} of {KILLS} kills found a worker: {len(asked)} songs, all "
        f"finished; {len(pages)} pages in {median(pages):.2f} s (longest {pages[-1]:.2f}); "
        f"{sizes[0]:.0f} MB at first, {last:.0f} at last",
    )
    assert killed >= KILLS // 2
    assert last < sizes[0] + MEGABYTES
