"""Waveform and spectrogram pictures of audio, as small PNG files. Imports no torch.

Both pictures have the same width and the same time axis, so that one can be placed above the other. Their scales are
fixed (amplitude -1 to 1, level -90 to 0 dB), so that pictures of different samples can be compared.

Shapes: T time in samples, N picture columns, K frames per column, F frequency bins, M mel bands.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.atomic import atomic_write
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

COLUMNS = 760  # width of the plot in pixels
BANDS = 160  # mel bands of two pixels
FFT = 2048  # samples per frame: 46 ms at 44,100 Hz
FLOOR_DB = -90.0

_WIDTH, _LEFT = 960, 92  # pixels
_TEXT, _SMALL_TEXT = 22 * 0.72, 20 * 0.72  # points at 100 dpi: 22 and 20 pixels
_FRAMES_AT_ONCE = 1024  # bounds memory to a few tens of MB for any length
_SHADES = 96  # of the spectrogram: about one per decibel, few enough for a small file

# One dark panel for light and dark pages alike.
_PANEL, _GRID, _INK = "#16131c", "#3a3444", "#cfc8d6"
_WAVE, _WAVE_RMS, _OVER = "#b4654a", "#f6b48f", "#ff4d5e"


def waveform_png(samples: Floats, rate: int, path: Path) -> None:
    """Writes the waveform of ``samples`` to ``path``: range and RMS of each column.

    Values beyond full scale (-1 to 1) are drawn in red, and the axis is extended to include them.

    Args:
        samples: audio [T] or [T, channels]; channels are averaged. At least one sample.
        rate: sample rate in Hz.
        path: the PNG file to write, 960 x 272 pixels.

    Raises:
        AudioError: no samples, samples that are not finite, or a rate that is not positive.
        DiskError: the file cannot be written.
    """
    samples_T = _checked(samples, rate)
    low_N, high_N, rms_N = envelope(samples_T, min(COLUMNS, len(samples_T)))
    peak = float(max(high_N.max(), -low_N.min()))
    figure, axes = panel(height=272, plot_height=168, seconds=len(samples_T) / rate)
    edges_N1 = np.linspace(0, len(samples_T) / rate, len(low_N) + 1)

    def fill(low: Floats, high: Floats, colour: str, *, edge: float = 0) -> None:  # columns without gaps
        low_N1, high_N1 = np.append(low, low[-1]), np.append(high, high[-1])
        axes.fill_between(edges_N1, low_N1, high_N1, step="post", color=colour, linewidth=edge)

    limit = max(1.0, peak) * 1.04
    axes.set_ylim(-limit, limit)
    axes.axhline(0, color=_WAVE, linewidth=1)
    for edge in (-1, 1):
        axes.axhline(edge, color=_GRID, linewidth=1.4)
    fill(low_N, high_N, _WAVE, edge=0.8)
    fill(np.maximum(low_N, -rms_N), np.minimum(high_N, rms_N), _WAVE_RMS)
    if peak > 1:
        fill(np.ones_like(high_N), np.maximum(high_N, 1), _OVER)
        fill(np.minimum(low_N, -1), -np.ones_like(low_N), _OVER)
        caption(figure, f"peak {peak:.2f}, beyond full scale", right=True, colour=_OVER)
    axes.set_yticks([-1, 0, 1], ["\N{MINUS SIGN}1", "0", "1"])
    caption(figure, "amplitude")
    save(figure, path)


def spectrogram_png(samples: Floats, rate: int, path: Path) -> None:
    """Writes the mel spectrogram of ``samples`` to ``path``: Hz on a mel axis, seconds, and a colour bar in dB.

    A sine at full scale reads between -4 and 0 dB, depending on whether its frequency is between two bands or in the
    centre of one. No sample is skipped: a column shows the mean power of all frames within it.

    Args:
        samples: audio [T] or [T, channels]; channels are averaged. At least one sample.
        rate: sample rate in Hz.
        path: the PNG file to write, 960 x 424 pixels.

    Raises:
        AudioError: no samples, samples that are not finite, or a rate that is not positive.
        DiskError: the file cannot be written.
    """
    samples_T = _checked(samples, rate)
    decibels_MN = mel_levels(samples_T, rate, min(COLUMNS, len(samples_T)))
    seconds, nyquist = len(samples_T) / rate, rate / 2
    figure, axes = panel(height=424, plot_height=2 * BANDS, seconds=seconds)
    image = axes.imshow(
        decibels_MN, origin="lower", aspect="auto", interpolation="nearest", cmap="magma", vmin=FLOOR_DB, vmax=0,
        extent=(0, seconds, 0, _mel(nyquist)),
    )  # fmt: skip
    marks = [hz for hz in (100, 500, 1000, 2000, 5000, 10000, 20000) if hz < 0.95 * nyquist]
    axes.set_yticks([_mel(hz) for hz in marks], [f"{hz // 1000}k" if hz >= 1000 else str(hz) for hz in marks])
    caption(figure, "frequency, Hz")
    caption(figure, "level, dB", right=True)
    bar_axes = figure.add_axes((  # beside the plot, of its height
        (_LEFT + COLUMNS + 14) / _WIDTH, axes.get_position().y0, 16 / _WIDTH, axes.get_position().height,
    ))  # fmt: skip
    bar = figure.colorbar(image, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.set_ticks([0, -30, -60, -90], labels=["0", *(f"\N{MINUS SIGN}{db}" for db in (30, 60, 90))])
    _style_ticks(bar_axes)
    save(figure, path)


def envelope(samples_T: Floats, columns: int) -> tuple[Floats, Floats, Floats]:
    """Returns the minimum, the maximum and the RMS of ``columns`` equal segments, each [N].

    The ranges of adjacent segments are extended to touch, so that a slow wave is drawn without gaps.
    """
    edges = np.linspace(0, len(samples_T), columns + 1).astype(np.int64)
    low_N = np.minimum.reduceat(samples_T, edges[:-1])
    high_N = np.maximum.reduceat(samples_T, edges[:-1])
    square_N = np.add.reduceat(np.square(samples_T, dtype=np.float64), edges[:-1]) / np.diff(edges)
    touching_low_N, touching_high_N = low_N.copy(), high_N.copy()
    np.minimum(low_N[1:], high_N[:-1], out=touching_low_N[1:])
    np.maximum(high_N[1:], low_N[:-1], out=touching_high_N[1:])
    return touching_low_N, touching_high_N, np.sqrt(square_N)


def mel_levels(samples_T: Floats, rate: int, columns: int) -> Floats:
    """Returns the level of every mel band in ``columns`` equal segments of time, in dB, [M, N], lowest band first.

    Frames of ``FFT`` samples (Hann window, zero padding) have a hop of at most half a frame.
    """
    segment = len(samples_T) / columns
    frames = int(np.ceil(segment / (FFT // 2)))
    centres = (np.arange(columns * frames) + 0.5) * (segment / frames)
    starts_NK = centres.astype(np.int64).reshape(columns, frames)
    frames_TF = np.lib.stride_tricks.sliding_window_view(np.pad(samples_T, FFT // 2), FFT)
    window_F = np.hanning(FFT + 1)[:-1].astype(np.float32)
    filters_FM = mel_filters(rate)
    # A sine at full scale has the power (sum of window / 2)**2 in its bin; the Hann window spreads it over 1.5 bins.
    full_scale = 1.5 * (window_F.sum() / 2) ** 2

    power_NM = np.empty((columns, BANDS), dtype=np.float32)
    step = max(1, _FRAMES_AT_ONCE // frames)
    for first in range(0, columns, step):
        chunk_NKF = frames_TF[starts_NK[first : first + step]] * window_F
        power_NKF = np.abs(np.fft.rfft(chunk_NKF)) ** 2
        power_NM[first : first + step] = power_NKF.mean(axis=1) @ filters_FM
    floor = 10 ** (FLOOR_DB / 10)
    decibels_MN: Floats = 10 * np.log10(np.maximum(power_NM / full_scale, floor)).T
    return decibels_MN


def mel_filters(rate: int) -> Floats:
    """Returns ``BANDS`` triangular filters from 0 Hz to half of ``rate``, [F, M]; none is narrower than a bin."""
    hz_F = np.linspace(0, rate / 2, FFT // 2 + 1)
    centre_M = (np.arange(BANDS) + 0.5) * (_mel(rate / 2) / BANDS)
    hz_M = 700 * (10 ** (centre_M / 2595) - 1)
    width_M = np.maximum(np.gradient(hz_M), rate / FFT)
    filters_FM: Floats = np.maximum(0, 1 - np.abs(hz_F[:, None] - hz_M) / width_M).astype(np.float32)
    return filters_FM


def _mel(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))


def _checked(samples: Floats, rate: int) -> Floats:
    if rate <= 0:
        raise AudioError(f"rate is {rate}; a picture needs a positive sample rate in Hz")
    samples_T = np.asarray(samples, dtype=np.float32)
    if samples_T.ndim == 2:
        samples_T = samples_T.mean(axis=1) if samples_T.size else samples_T.reshape(-1)
    if samples_T.ndim != 1 or not len(samples_T):
        raise AudioError(f"audio has shape {np.shape(samples)}; a picture needs [time] or [time, channels], not empty")
    bad = len(samples_T) - int(np.isfinite(samples_T).sum())
    if bad:
        raise AudioError(f"{bad} of {len(samples_T)} samples are not finite; decode again, in float32 if it was not")
    return samples_T


def panel(*, height: int, plot_height: int, seconds: float) -> tuple[Figure, Axes]:
    """Returns an empty dark figure of ``height`` pixels and its plot, with the time axis drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # imported late: it takes half a second
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(_WIDTH / 100, height / 100), dpi=100, facecolor=_PANEL)
    FigureCanvasAgg(figure)
    bottom = 54
    axes = figure.add_axes((_LEFT / _WIDTH, bottom / height, COLUMNS / _WIDTH, plot_height / height))
    axes.set_facecolor(_PANEL)
    axes.set_xlim(0, seconds)
    for spine in axes.spines.values():
        spine.set_visible(False)
    divisor, unit = (0.001, "ms") if seconds < 1 else (60.0, "min") if seconds >= 120 else (1.0, "s")
    steps = [1, 2, 3, 6, 10] if unit == "min" else [1, 2, 5, 10]
    ticks = MaxNLocator(nbins=7, steps=steps).tick_values(0, seconds / divisor)
    ticks = [tick for tick in ticks if 0 <= tick * divisor <= seconds]
    labels = [f"{tick:g}" for tick in ticks]
    axes.set_xticks([tick * divisor for tick in ticks], labels)
    figure.text((_WIDTH - 14) / _WIDTH, 27 / height, unit, **_text(_SMALL_TEXT, ha="right", va="center"))
    _style_ticks(axes)
    return figure, axes


def _text(size: float, colour: str = _INK, **more: str) -> dict[str, Any]:
    return {"fontsize": size, "color": colour, "fontfamily": "DejaVu Sans", **more}  # the font matplotlib ships


def _style_ticks(axes: Axes) -> None:
    axes.tick_params(colors=_GRID, labelcolor=_INK, labelsize=_TEXT, length=5, width=1.4, labelfontfamily="DejaVu Sans")


def caption(figure: Figure, text: str, *, right: bool = False, colour: str = _INK) -> None:
    """Writes a line of text above the plot, at its left or at the picture's right."""
    height = figure.get_figheight() * 100
    x, align = ((_WIDTH - 14) / _WIDTH, "right") if right else (_LEFT / _WIDTH, "left")
    figure.text(x, 1 - 26 / height, text, **_text(_SMALL_TEXT, colour, ha=align, va="center"))


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as a palette PNG, a third of the size of full colour; atomic."""
    from PIL import Image  # matplotlib's own PNG writer

    drawn = io.BytesIO()
    figure.savefig(drawn, format="rgba", dpi=100, facecolor=_PANEL)
    size = (_WIDTH, round(figure.get_figheight() * 100))
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    picture = Image.frombytes("RGBA", size, drawn.getvalue()).convert("RGB")
    with atomic_write(path) as file:
        picture.quantize(palette=palette, dither=Image.Dither.NONE).save(file, format="png", optimize=True)


def _palette() -> bytes:
    """Returns the RGB bytes of all colours of the pictures: the spectrogram's, and blends for antialiasing."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    shades = colormaps["magma"](np.linspace(0, 1, _SHADES))[:, :3]
    blends = [(_PANEL, _INK, 24), (_PANEL, _GRID, 8), (_PANEL, _WAVE, 24), (_PANEL, _OVER, 24), (_WAVE, _WAVE_RMS, 24)]
    ramps = [np.linspace(to_rgb(start), to_rgb(end), steps) for start, end, steps in blends]
    return np.round(np.concatenate([shades, *ramps]) * 255).astype(np.uint8).tobytes()
