"""The pages of `jukebox web` with songs on them: they fit, are drawn, and everybody can use them."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.browser import browser, needs_browser
from tests.helpers.paths import ROOT
from tests.helpers.servers.person import Person
from tests.helpers.servers.web import Client, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.endurance, needs_browser]
SCREENSHOTS = ROOT / "outputs" / "screenshots"
PAGES = {"/": "document.body.dataset.ready && document.getElementById('wave').dataset.ready",
         "/queue": "document.querySelector('.job')", "/models": "document.querySelector('.model')",
         "/help": "document.querySelector('.try-song')"}  # fmt: skip
SIZES = pytest.mark.parametrize(("width", "height"), [(1360, 900), (390, 844)], ids=["desktop", "phone"])
THEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
AXE = "axe-core@4.10.3"  # MPL-2.0; fetched from npm by the test that uses it, and never part of this program
AXE_SHA512 = "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg=="


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server on which songs were made: three sketches, one that goes on with other words, and a finished one."""
    with running(tmp_path_factory.mktemp("looks")) as found:
        words = {"artist": "music box", "genre": "waltz", "lyrics": "light the lantern, light the way"}
        sketch = made(found, "songs", {**words, "seconds": 6, "seed": 1, "number": 3})
        other = {"sample": 1, "keep_seconds": 3, "seconds": 9, "seed": 2, "lyrics": "sing until the break of day"}
        longer = made(found, f"runs/{sketch}/continue", other)
        made(found, f"runs/{longer}/upsample", {})
        found.ask(f"runs/{sketch}/takes/1", {"title": "Lantern, second try", "star": True}, "PATCH")
        found.ask(f"runs/{sketch}/takes/0", {"note": "Too fast."}, "PATCH")
        yield found


def made(client: Client, path: str, body: dict[str, Any]) -> str:
    """The run that a request makes, once it is finished."""
    answer = client.ask(path, body)
    assert client.finished(answer["job"]["id"])["status"] == "finished"
    return str(answer["run"])


@pytest.fixture
def person(client: Client, tmp_path: Path) -> Iterator[Person]:
    with browser(tmp_path / "profile") as page:
        yield Person(page, client)


def opens_the_form(person: Person) -> None:
    person.press("n")
    person.sees("document.getElementById('song-command').textContent")


def chooses_a_region(person: Person) -> None:
    person.page.run("import('/static/player.js').then(player => { player.setRegion(1, 2.5); })")
    person.sees("!document.getElementById('region').hidden")


@SIZES
@THEMES
def test_every_page_fits_and_is_drawn(person: Person, width: int, height: int, dark: bool) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def drawn(name: str) -> None:
        wide = person.page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, name
        person.page.screenshot(SCREENSHOTS / f"web_{name}_{'dark' if dark else 'light'}_{width}.png")

    for path, condition in PAGES.items():
        person.open(path, width, height, dark=dark)
        person.sees(condition)
        drawn(path.strip("/") or "studio")
        if path == "/":
            chooses_a_region(person)
            person.page.run("document.getElementById('region').scrollIntoView({block: 'center'})")
            drawn("region")
            opens_the_form(person)
            drawn("form")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The rules of axe-core, as a script."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"npm does not give {AXE}: {done.stderr[-200:]}")
    [packed] = folder.glob("axe-core-*.tgz")
    assert base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(packed) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


@THEMES
def test_axe_finds_nothing_serious(person: Person, axe: str, dark: bool) -> None:
    def faults(page: str) -> list[str]:
        person.page.run(f"{{ {axe} }}; true")
        found = person.page.run(
            "axe.run({resultTypes: ['violations']}).then(found => JSON.stringify(found.violations))"
        )
        return [
            f"{page}: {each['id']} ({each['impact']}) {node['target']} {node['html'][:120]}"
            for each in json.loads(found)
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    found = []
    for path, condition in PAGES.items():
        person.open(path, dark=dark)
        person.sees(condition)
        found += faults(path)
        if path == "/":
            chooses_a_region(person)
            found += faults("region")
            opens_the_form(person)
            found += faults("form")
    assert found == []
    person.page.run("document.body.append(Object.assign(document.createElement('button')))")
    assert faults("a button without a name")  # the rules do find something
