"""A headless browser that opens pages from disk: for one look at a page, or for a session with scripts."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad",
    "--disable-dev-shm-usage",  # a container has 64 MB there, and a page that needs more ends
)  # fmt: skip


def browse(page: Path, profile: Path, *flags: str) -> str:
    """Opens `page` from disk in a fresh headless browser, and returns its output."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--timeout=20000", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def probed(page: Path, script: str) -> Path:
    """A copy of a page beside it, with a script that records what it finds: `record(value)` ends it."""
    begin = "<script>const record = found => { document.documentElement.dataset.probe = JSON.stringify(found); };\n"
    copy = page.with_name("probe.html")
    copy.write_text(page.read_text("utf-8").replace("</body>", f"{begin}{script}</script></body>"), "utf-8")
    return copy


def recorded(dom: str) -> Any:
    """What the script of `probed` recorded, in the output of `browse` with ``--dump-dom``."""
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found, "the probe did not finish"
    return json.loads(html.unescape(found[1]))


class Session:
    """A page of a browser that waits for commands (Chrome's DevTools protocol over two pipes)."""

    def __init__(self, to_browser: int, from_browser: int, log: Path) -> None:
        self._log = log
        self._to, self._from, self._rest, self._count = to_browser, from_browser, b"", 0
        self.requests: list[str] = []  # the addresses that the page asked for
        [target] = [each for each in self._call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self.call("Network.enable")

    def call(self, method: str, **parameters: object) -> Any:
        """Returns the result of a command to the page."""
        return self._call(method, self._session, **parameters)

    def open(self, page: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Opens a page from disk, in a window of this size, and waits until it is parsed."""
        self.visit(page.as_uri(), width, height, dark=dark)

    def visit(self, address: str, width: int, height: int, *, dark: bool = False) -> None:
        """Opens an address, in a window of this size, and waits until its page is parsed."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)
        while self.run("[location.href, document.readyState]") != [address, "complete"]:
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """Returns the value of a JavaScript expression; a promise is awaited."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )  # fmt: skip
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def screenshot(self, path: Path, clip: dict[str, float] | None = None) -> Path:
        """Writes what the window shows, or a part of the page, as PNG."""
        where = {} if clip is None else {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **where)["data"]))
        return path

    def _call(self, method: str, session: str | None = None, **parameters: object) -> Any:
        self._count += 1
        message: dict[str, object] = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._from, 1 << 16)
            assert read, f"the browser ended: {self._log.read_text('utf-8', 'replace')[-2000:]}"
            self._rest += read
        first, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(first))


@contextmanager
def browser(profile: Path) -> Iterator[Session]:
    """A headless browser with one page; it ends with the block."""
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [
        "bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "browser",
        CHROMIUM, *FLAGS, "--mute-audio", f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
    ]  # fmt: skip
    quiet, log = subprocess.DEVNULL, profile.with_name(f"{profile.name}.log")
    with log.open("wb") as said:
        process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stdin=quiet, stdout=quiet, stderr=said)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Session(ours_out, ours_in, log)
    finally:
        os.close(ours_out)  # the browser ends with its pipe
        os.close(ours_in)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
