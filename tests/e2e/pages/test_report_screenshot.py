"""The report in a real browser: it is drawn, its players and pictures load from disk, and lyrics stay text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from jukebox_core.audio.pictures import spectrogram_png, waveform_png
from stages.sound.report import Report, Song, Timing, Track, write_report
from tests.helpers.browser import browse, needs_browser, probed, recorded
from tests.helpers.paths import ROOT

SCREENSHOTS = ROOT / "outputs" / "screenshots"
RATE = 44_100
LYRICS = """The lamps along the water <b>burn</b>
& every one of them is yours
<script>document.documentElement.dataset.pwned = "yes"</script>
<img src=x onerror="document.documentElement.dataset.pwned='yes'">

    Oh hold the note, "hold" the note,
    let the river take the words"""

# Run in a copy of the page: waits until the page has loaded its files, then records visible properties.
PROBE = """
window.addEventListener("load", async () => {
  const audios = [...document.querySelectorAll("audio")];
  await Promise.all(audios.map(a => a.readyState >= 1 ? 0 : new Promise(done => {
    a.addEventListener("loadedmetadata", done); a.addEventListener("error", done); setTimeout(done, 5000); })));
  const root = document.documentElement;
  const found = {
    images: [...document.images].map(i => [i.naturalWidth, i.getBoundingClientRect().width]),
    seconds: audios.map(a => a.duration),
    lyrics: document.querySelector(".lyrics").textContent,
    overflow: root.scrollWidth - root.clientWidth,
    pwned: root.dataset.pwned || "no",
    sources: [...document.querySelectorAll("[src]")].map(e => e.src),
  };
  record(found);
});
"""

pytestmark = [pytest.mark.slow, needs_browser]


def made_up_song(level: int, index: int, seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Plucked sines and a hiss; the higher the level, the duller, as upsampling adds brightness."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(10 * index + level)
    out = np.zeros_like(time)
    for beat in range(int(seconds * 2)):
        hertz = 110 * 2 ** (noise.integers(0, 24) / 12)
        since = np.clip(time - beat / 2, 0, None)
        pluck = np.exp(-since * 4) * np.minimum(since * 200, 1)
        for partial in range(1, {2: 4, 1: 10, 0: 24}[level]):
            out += 0.3 / partial * pluck * np.sin(2 * np.pi * hertz * partial * since)
    gain = 2.4 if index else 0.8
    return (gain * (out + 0.004 * noise.standard_normal(len(time)))).astype(np.float32)


def made_up_report(folder: Path, *, seconds: float = 6.0) -> Report:
    """Two samples of three levels, the second one too loud and without lyrics, with files written to `folder`."""
    songs = []
    for index, (artist, genre, lyrics) in enumerate(
        [("Ella Fitzgerald", "jazz", LYRICS), ("Céline Dion", "pop ballad", "")]
    ):
        tracks = []
        for level in (2, 1, 0):
            stem = f"audio/sample {index} level_{level}"  # a space, so that escaping is needed
            (folder / "audio").mkdir(parents=True, exist_ok=True)
            samples = made_up_song(level, index, seconds)
            soundfile.write(folder / f"{stem}.wav", samples, RATE, subtype="PCM_16")
            waveform_png(samples, RATE, folder / f"{stem} waveform.png")
            spectrogram_png(samples, RATE, folder / f"{stem} spectrogram.png")
            tracks.append(
                Track(
                    level=level,
                    audio=f"{stem}.wav",
                    waveform=f"{stem} waveform.png",
                    spectrogram=f"{stem} spectrogram.png",
                    seconds=seconds,
                    peak=float(np.abs(samples).max()),
                    rms=float(np.sqrt(np.mean(samples**2))),
                )
            )
        songs.append(Song(index=index, artist=artist, genre=genre, lyrics=lyrics, tracks=tuple(tracks)))
    level = {"temperature": 0.99, "top_k": None, "top_p": None, "hop_fraction": 0.5}
    return Report(
        title="river-lamps",
        model="mini",
        trained=False,
        training_note="initialised from seed 0",
        licence="Apache-2.0. The mini model contains no weights of OpenAI's Jukebox.",
        settings={
            "run": "river-lamps",
            "sampling": {"seed": 7, "n_samples": 2, "stop_level": 0, "level_0": level, "level_2": level},
            "song": {"artist": "Ella Fitzgerald", "genre": "jazz", "seconds": seconds, "lyrics": LYRICS},
            "hardware": {"device": "cpu", "dtype": "float32", "compile": False, "threads": 2},
            "storage": {"tokens": "file:///home/someone/.cache/jukebox/tokens/a-rather-long-path", "every_tokens": 256},
        },
        songs=tuple(songs),
        timings=(
            Timing(stage="weights", seconds=0.8),
            Timing(stage="sample", level=2, seconds=41.2, tokens=4134, windows_sampled=6, windows_reused=2),
            Timing(stage="upsample", level=1, seconds=93.7, tokens=16537, windows_sampled=10, windows_reused=0),
            Timing(stage="upsample", level=0, seconds=374.1, tokens=66150, windows_sampled=38, windows_reused=0),
            Timing(stage="decode", seconds=2.4),
        ),
        notes=("Sample 1 begins with two windows of an earlier run.",),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder, moved after its report was written: paths have to be relative."""
    made = tmp_path_factory.mktemp("made") / "run"
    made.mkdir()
    write_report(made, made_up_report(made))
    return Path(shutil.move(made, tmp_path_factory.mktemp("moved") / "run of #1"))


@pytest.mark.parametrize(
    ("name", "width", "height", "flags"),
    [
        ("light", 1280, 3000, ()),
        ("dark", 1280, 3000, ("--blink-settings=preferredColorScheme=0",)),
        ("phone", 500, 5600, ()),  # the narrowest window that headless Chromium opens
    ],
)
def test_screenshot_shows_pictures_and_text(
    folder: Path, tmp_path: Path, name: str, width: int, height: int, flags: tuple[str, ...]
) -> None:
    shot = tmp_path / f"report-{name}.png"
    window = f"--window-size={width},{height}"
    browse(folder / "report.html", tmp_path / "profile", f"--screenshot={shot}", window, *flags)
    if SCREENSHOTS.is_dir():
        shutil.copy(shot, SCREENSHOTS)

    with Image.open(shot) as picture:
        assert picture.width == width
        colours = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
    assert len(colours) > 500
    total = sum(count for count, _ in colours)
    hot = sum(count for count, (r, g, b) in colours if r > 150 and r > 1.5 * g and b > 60 and r > b)
    assert hot > 0.01 * total, "the warm end of the spectrograms' colours is missing"
    paper = max(colours)[1]
    assert sum(paper) < 200 if name == "dark" else sum(paper) > 600, f"the page is mostly {paper}"


def test_page_loads_its_files_and_keeps_lyrics_as_text(folder: Path, tmp_path: Path) -> None:
    page = probed(folder / "report.html", PROBE)
    found = recorded(browse(page, tmp_path / "profile", "--dump-dom", "--window-size=500,900"))

    assert len(found["images"]) == 12
    assert all(natural == 960 and shown > 300 for natural, shown in found["images"])
    assert found["seconds"] == pytest.approx([6.0] * 6, abs=0.01)
    assert found["lyrics"] == LYRICS
    assert found["pwned"] == "no"
    assert found["overflow"] == 0
    assert len(found["sources"]) == 18
    assert all(source.startswith(folder.as_uri() + "/") for source in found["sources"])
