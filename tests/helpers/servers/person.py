"""Who sits before a page of `jukebox web`, in a headless browser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.helpers.patience import patience

if TYPE_CHECKING:
    from tests.helpers.browser import Session
    from tests.helpers.servers.web import Client


class Person:
    """Who sits before the page."""

    def __init__(self, page: Session, client: Client) -> None:
        self.page, self.client = page, client

    def open(self, path: str = "/", width: int = 1360, height: int = 900, *, dark: bool = False) -> None:
        self.page.visit(self.client.address + path, width, height, dark=dark)

    def sees(self, condition: str, seconds: float = 90) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + patience(seconds)
        while not self.page.run(f"Boolean({condition})"):
            assert time.monotonic() < end, (condition, self.page.run("document.body.innerText"))
            time.sleep(0.05)

    def click(self, name: str) -> None:
        self.page.run(f"document.getElementById({json.dumps(name)}).click()")

    def press(self, key: str) -> None:
        self.page.run(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}, bubbles: true}}))")

    def types(self, field: str, text: str) -> None:
        script = f"f => {{ f.value = {json.dumps(text)}; f.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
        self.page.run(f"({script})(document.getElementById('song-form').elements[{field!r}])")

    def text(self, name: str) -> str:
        return str(self.page.run(f"document.getElementById({json.dumps(name)}).innerText"))

    def chosen(self) -> str:
        return str(self.page.run("new URLSearchParams(location.search).get('take') || ''"))

    def makes(self) -> str:
        """Presses `Make it`, once the command is shown; returns the run that is chosen then."""
        before = self.chosen()
        self.sees("document.getElementById('song-command').textContent && !document.getElementById('make').disabled")
        self.click("make")
        self.sees("!document.getElementById('song-dialog').open")
        self.sees(f"(new URLSearchParams(location.search).get('take') || '') !== {json.dumps(before)}")
        return self.chosen().rpartition("/")[0]

    def hears(self) -> None:
        self.sees("document.getElementById('wave').dataset.ready && document.getElementById('sound').duration > 0")

    def finished(self, run: str) -> None:
        self.client.until(f"runs/{run}", has=lambda found: found.get("status") == "finished")
        self.sees("document.getElementById('progress').hidden")
