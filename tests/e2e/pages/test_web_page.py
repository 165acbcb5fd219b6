"""An hour with `jukebox web`: the real program, and a real browser that clicks and types."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import soundfile

from tests.helpers.browser import browser, needs_browser
from tests.helpers.paths import ROOT
from tests.helpers.patience import patience
from tests.helpers.servers.person import Person
from tests.helpers.servers.web import COMMAND, Client, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.endurance, needs_browser]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hour")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with running(folder) as found:
        yield found


@pytest.fixture
def person(client: Client, tmp_path: Path) -> Iterator[Person]:
    with browser(tmp_path / "profile") as page:
        yield Person(page, client)


def test_a_persons_hour(person: Person, client: Client, folder: Path) -> None:
    person.open()
    person.sees("!document.getElementById('welcome').hidden")
    person.press("n")
    person.sees("document.getElementById('song-dialog').open")
    person.types("artist", "beetles")
    person.sees("document.getElementById('problems').innerText.includes('music box')")
    person.types("artist", "music box")
    person.types("lyrics", "light the lantern, light the way")
    person.types("seconds", "3")
    sketch = person.makes()
    person.hears()
    person.finished(sketch)
    assert "light the lantern" in person.text("words")
    assert "jukebox generate" in person.text("command")

    if person.page.run("document.getElementById('sound').paused"):  # it plays by itself, once it can be heard
        person.press(" ")
    person.sees("document.getElementById('sound').currentTime > 0.1")
    person.press("g")  # go on, with other words
    person.types("lyrics", "morning comes to the end of night")
    person.types("keep_seconds", "1.5")
    person.types("seconds", "4")
    child = person.makes()
    person.hears()
    person.finished(child)
    assert client.ask(f"runs/{child}")["takes"][0]["parent"] == f"{sketch}/0"
    person.sees("document.querySelector('[aria-selected=true]').getAttribute('aria-level') === '2'")

    person.press("u")  # finish it, and stop in the middle
    person.sees(f"!new URLSearchParams(location.search).get('take').startsWith({json.dumps(child + '/')})")
    finishing = person.chosen().rpartition("/")[0]
    person.sees("Object.values(document.getElementById('progress-bar').value > 0 ? [1] : []).length")
    person.press("s")
    client.until(f"runs/{finishing}", has=lambda found: found["status"] == "stopped")
    person.open(f"/?take={finishing}/0")  # the page is loaded again
    person.sees("!document.getElementById('stopped').hidden")
    person.click("resume")
    person.finished(finishing)
    person.hears()
    sound = person.page.run(
        "fetch(document.querySelector('#downloads a').href).then(a => a.arrayBuffer()).then(b => b.byteLength)"
    )
    assert sound > 100_000

    shell = subprocess.run(
        [str(COMMAND), "runs", "resume", finishing], cwd=folder, capture_output=True, text=True, timeout=patience(120)
    )
    assert "is finished; nothing is left to do" in shell.stderr
    assert all(each.startswith((client.address, "data:", "blob:")) for each in person.page.requests)


def test_a_region_is_cut_out(person: Person, client: Client) -> None:
    run = client.ask("runs")["runs"][0]["name"]
    person.open(f"/?take={run}/0")
    person.hears()
    person.page.run("import('/static/player.js').then(player => { player.setRegion(0.8, 1.6); })")
    person.sees("!document.getElementById('region').hidden")
    person.click("region-cut")
    person.sees("document.getElementById('song-command').textContent.includes('source.splice=')")
    cut = person.makes()
    person.finished(cut)
    assert client.ask(f"runs/{cut}")["parent"]["splice"][0]["from_seconds"] == pytest.approx(1.6)


def test_a_run_of_the_shell_appears_and_marks_stay(person: Person, client: Client, folder: Path) -> None:
    person.open()
    command = [str(COMMAND), "generate", "seconds=2", "sampling=top_only", "run.name=shell", "output.report=false"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=patience(120))
    person.sees("document.querySelector('[data-key=\"shell/0\"]')")
    person.page.run("document.querySelector('[data-key=\"shell/0\"]').click()")
    person.sees("document.getElementById('take-title').textContent === 'shell'")
    person.press("x")
    person.sees("document.getElementById('star').getAttribute('aria-pressed') === 'true'")
    assert client.ask("runs/shell")["takes"][0]["star"]


def test_a_killed_worker_is_replaced_and_the_job_goes_on(client: Client) -> None:
    made = client.ask("songs", {"seconds": 6, "seed": 99, "sketch": False})
    for _ in range(3):
        client.until(f"jobs/{made['job']['id']}", has=lambda found: found["status"] != "running" or found["levels"])
        pid = client.ask("jobs")["worker"]["pid"]
        if client.ask(f"jobs/{made['job']['id']}")["status"] == "running":
            os.kill(pid, signal.SIGKILL)
            client.until("jobs", has=lambda found, old=pid: found["worker"]["pid"] not in (None, old))
    assert client.finished(made["job"]["id"])["status"] == "finished"
    assert client.ask(f"runs/{made['run']}")["status"] == "finished"


def test_the_client_of_the_page_makes_a_song(client: Client, tmp_path: Path) -> None:
    program = ROOT / "examples" / "web_client.py"
    assert f"python {program.relative_to(ROOT)} http://127.0.0.1:4280" in (ROOT / "docs/composer.md").read_text("utf-8")
    assert len(program.read_text("utf-8").split('"""')[2].splitlines()) <= 35
    command = [sys.executable, str(program), client.address, "sing"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=patience(120))
    assert done.stdout.startswith("jukebox generate ")
    assert soundfile.info(str(tmp_path / "song.wav")).duration == pytest.approx(3, abs=0.1)
