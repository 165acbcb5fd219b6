"""The page that turns codes into sound in a browser: the sound is ours, and no other server is asked."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch

from jukebox_core.export.compare import signal_to_noise
from jukebox_core.models.presets import load_preset
from tests.helpers.browser import browser, needs_browser
from tests.helpers.exports import opened
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.exports import Exports

WEB = ROOT / "examples/onnx/web"
FRAMES = 40


class Quiet(SimpleHTTPRequestHandler):
    """A server of one folder."""

    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The folder of the page, and its address."""
    folder = tmp_path / "site"
    shutil.copytree(WEB, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield folder, f"http://127.0.0.1:{server.server_port}/index.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_shipped_files_are_those_of_npm() -> None:
    """Unmodified, with their licence and digests."""
    folder = WEB / "onnxruntime-web"
    sums = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in folder.glob("ort*")}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "MIT License" in (folder / "LICENSE").read_text()


@pytest.mark.slow
@needs_browser
@pytest.mark.timeout(1800)
def test_the_sound_is_ours(exports: Exports, site: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = site
    shutil.copytree(exports.folder("mini_vamp", "decoder"), folder / "graphs")
    codes = torch.randint(
        256, (1, load_preset("mini_vamp").network.codec.n_codebooks, FRAMES), generator=torch.Generator().manual_seed(4)
    )
    (folder / "graphs/codes.json").write_text(json.dumps(codes[0].tolist()))
    with browser(tmp_path / "profile") as page:
        page.call("Page.navigate", url=address)
        until = time.monotonic() + 300
        while "s of sound" not in (shown := str(page.run("document.getElementById('state')?.textContent"))):
            assert time.monotonic() < until, shown
            assert "missing" not in shown
            time.sleep(0.2)
        found = page.run("import('/demo.mjs').then(m => m.made).then(made => Array.from(made.samples))")
        assert all(each.startswith(("http://127.0.0.1", "blob:", "data:")) for each in page.requests), page.requests
    with torch.inference_mode():
        ours = opened("mini_vamp", "decoder").module(codes)[0, 0].numpy()
    snr = signal_to_noise(ours, np.array(found, np.float32))
    assert snr is not None
    assert snr >= 100


@pytest.mark.slow
@needs_browser
def test_without_graphs_the_page_says_so(site: tuple[Path, str], tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as page:
        page.call("Page.navigate", url=site[1])
        until = time.monotonic() + 120
        while "is missing" not in (shown := str(page.run("document.getElementById('state')?.textContent"))):
            assert time.monotonic() < until, shown
            time.sleep(0.2)
