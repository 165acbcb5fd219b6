"""A model's files at their real size: how much memory loading takes, and whether every level samples.

For each role an untrained file is written as OpenAI's would be (`upstream_files`), loaded and used, then deleted: one
file at a time, each step in a fresh process, whose peak is then its own. ``python -m benchmarks.full_size --help``.

What is measured of a process (``/proc/self/status``): *peak* is the most memory that was ever resident, with Python,
torch and pages of mapped files. *base* is what was resident before loading. Pages of the file itself count as long as
they are mapped, although the kernel could take them back.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from benchmarks.upstream_files import build, draw, write_upstream
from jukebox_core.families.jukebox.checkpoints.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.conditioning.labels import SongLabels, window_row
from jukebox_core.families.jukebox.config import JukeboxConfig, level_of
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.memory import estimate_bytes
from jukebox_core.families.jukebox.sampling.sampler import WindowInputs, open_window, sample_window
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.device import DTYPES
from jukebox_core.runtime.quantise import Int8Projection, quantise
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.tokens.plan import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE

ROLES = ("vqvae", "level_0", "level_1", "level_2")

ALLOWED = 1.10  # peak while loading, as a share of the weights
FORMATS = ("legacy", "zip")
_SPARE_DISK = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One file, loaded one way."""

    model: str
    role: str
    format: str  # legacy or zip
    dtype: str
    known: int  # tokens read before the first new one
    new: int  # tokens sampled
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What /proc/self/status says, in bytes."""

    peak: int
    resident: int
    anonymous: int  # of the resident: the process's own
    mapped: int  # of the resident: pages of files, libraries among them

    @classmethod
    def now(cls) -> Memory:
        """Reads the status of this process; Linux only."""
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        found = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        names = {"peak": "VmHWM", "resident": "VmRSS", "anonymous": "RssAnon", "mapped": "RssFile"}
        return cls(**{ours: int(found[theirs][0]) * 1024 for ours, theirs in names.items()})


def fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns ``function(*arguments)`` as a new process computes it; its memory goes with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def write(model: str, role: str, file_format: str, path: Path) -> dict[str, Any]:
    """Writes the file, puts it on disk and out of memory; returns its size, the weights' and the peak it took."""
    before, began = Memory.now(), time.perf_counter()
    weights = write_upstream(load_preset(model).config, role, path, legacy=file_format == "legacy")
    seconds = time.perf_counter() - began
    return {
        "weights_bytes": weights,
        "file_bytes": path.stat().st_size,
        "write_s": seconds,
        "write_peak_over_base": (Memory.now().peak - before.resident) / weights,
    }


def forget_cached(path: Path) -> None:
    """Has the kernel drop the file's pages, so that the next reader reads the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@torch.inference_mode()
def use(case: Case, path: Path) -> dict[str, Any]:
    """Loads the file and uses what it holds; returns figures."""
    torch.set_num_threads(case.threads)
    config = load_preset(case.model).config
    base, began = Memory.now(), time.perf_counter()
    if case.role == "vqvae":
        module: nn.Module = load_vqvae(config, path)
    else:
        module = load_prior(config, level_of(case.role), path, dtype=case.dtype)
    load_s, loaded = time.perf_counter() - began, Memory.now()
    weights = sum(tensor.nbytes for tensor in {id(t): t for t in module.state_dict(keep_vars=True).values()}.values())
    if case.role == "vqvae":
        figures = hear(cast("VQVAE", module), config)
    else:
        figures = sample(cast("Prior", module), config, case)
    used = Memory.now()
    return {
        "weights_bytes": weights,
        "load_s": load_s,
        "base": asdict(base),
        "loaded": asdict(loaded),
        "used": asdict(used),
        "load_peak_share": loaded.peak / weights,
        "load_peak_share_over_base": (loaded.peak - base.resident) / weights,
        **figures,
        "weights_right": weights_right(module),
    }


def hear(vqvae: VQVAE, config: JukeboxConfig) -> dict[str, Any]:
    """Encodes a second of noise on every level and decodes it again; returns seconds taken."""
    audio_BT = torch.randn(1, config.vqvae.sample_rate) / 10
    began = time.perf_counter()
    codes = vqvae.encode(audio_BT)
    encode_s, decode_s = time.perf_counter() - began, []
    for level, codes_BT in enumerate(codes):
        began = time.perf_counter()
        heard_BT = vqvae.decode(codes_BT, level)
        decode_s.append(time.perf_counter() - began)
        assert heard_BT.shape[1] == codes_BT.shape[1] * config.vqvae.hops[level]
        assert heard_BT.isfinite().all()
    return {"encode_s": encode_s, "decode_s": decode_s}


def sample(prior: Prior, config: JukeboxConfig, case: Case) -> dict[str, Any]:
    """Samples tokens after random known ones, with label, lyrics, timing and codes above as a song would have them."""
    level, bins = prior.config.level, config.vqvae.bins
    generator = torch.Generator().manual_seed(level)

    def codes(count: int) -> Tensor:
        return torch.randint(bins, (1, count), generator=generator)

    inputs = WindowInputs(
        window=Window(0, case.known, case.known + case.new),
        known_BT=codes(case.known),
        above_BT=codes(prior.above_tokens) if prior.above is not None else None,
        labels_BN=torch.tensor([label_row(config, level)]),
    )
    noise, sampled, moments = CounterNoise(0, level, [0]), [], [time.perf_counter()]
    for block_BT in sample_window(open_window(prior, inputs), inputs, LevelSampling(), noise, block=1):
        sampled.append(block_BT)
        moments.append(time.perf_counter())
    tokens_BT = torch.cat(sampled, dim=1)
    assert tokens_BT.shape[1] == case.new
    assert -prior.shift <= int(tokens_BT.min()) <= int(tokens_BT.max()) < bins
    estimate = estimate_bytes(config, level, case.dtype, 1)
    return {
        "sampled": case.new,
        "distinct": len(set(tokens_BT.flatten().tolist())),
        "read": case.known + prior.config.lyric_positions,
        "first_token_s": moments[1] - moments[0],
        "tokens_per_s": (case.new - 1) / (moments[-1] - moments[1]),
        "estimate_bytes": estimate,
        "estimate_share": estimate / Memory.now().peak,
    }


def label_row(config: JukeboxConfig, level: int) -> tuple[int, ...]:
    """Returns what a prior is told of the first window of a song four windows of the top level long."""
    prior = config.priors[level]
    song = SongLabels(
        artist_id=0,
        genre_ids=(0,) if prior.labels else (),
        lyric_tokens=tuple(1 + place % (prior.lyrics.characters - 1) for place in range(500)) if prior.lyrics else (),
        total_length=4 * config.priors[config.top].context * config.vqvae.hops[config.top],
        offset=0,
    )
    return window_row(song, prior, sample_length=prior.context * config.vqvae.hops[level], start=0).row


def weights_right(module: nn.Module) -> bool:
    """Returns whether every tensor is bit for bit what was written, converted or rounded as the module holds it."""
    state = {id(tensor): (name, tensor) for name, tensor in reversed(module.state_dict(keep_vars=True).items())}
    rounded = {name for name, part in module.named_modules() if isinstance(part, Int8Projection)}

    def written(name: str, tensor: Tensor) -> Tensor:
        owner, _, kind = name.rpartition(".")
        if owner in rounded and kind != "bias":
            weight, scale = quantise(draw(f"{owner}.weight", module.get_submodule(owner).get_buffer("weight").shape))
            return scale if kind == "scale" else weight
        return draw(name, tensor.shape).to(tensor.dtype)

    return all(torch.equal(tensor, written(name, tensor)) for name, tensor in state.values())


def run(
    model: str,
    *,
    roles: Sequence[str] = ROLES,
    formats: Sequence[str] = FORMATS,
    dtypes: Sequence[str] = ("float32",),
    known: int = 64,
    new: int = 32,
    threads: int = 1,
    scratch: str | None = None,
) -> dict[str, Any]:
    """Measures every role in every format and precision; returns where it ran, and a row of figures for each case."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="full-size-", dir=scratch) as folder:
        for role in roles:
            for file_format in formats:
                path = Path(folder) / f"{role}.pth.tar"
                check_disk(model, role, path)
                written = fresh_process(write, model, role, file_format, path)
                for dtype in dtypes if role != "vqvae" else ("float32",):
                    case = Case(
                        model=model, role=role, format=file_format, dtype=dtype, known=known, new=new, threads=threads
                    )
                    forget_cached(path)
                    rows.append(asdict(case) | written | fresh_process(use, case, path))
                    print(line(rows[-1]), file=sys.stderr, flush=True)
                path.unlink()
    return {"benchmark": "full_size", "machine": machine(), "rows": rows}


def check_disk(model: str, role: str, path: Path) -> None:
    """Ends the program where the file would not fit."""
    need = sum(tensor.nbytes for tensor in build(load_preset(model).config, role).state_dict().values()) + _SPARE_DISK
    free = shutil.disk_usage(path.parent).free
    if free < need:
        raise SystemExit(f"{path.parent} has {free:,} bytes free; {role} needs {need:,}: give another --scratch folder")


def machine() -> dict[str, Any]:
    """Returns where and when this ran."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": next((text.split(":", 1)[1].strip() for text in cpus if text.startswith("model name")), "unknown"),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load_average": round(os.getloadavg()[0], 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


HEADER = (
    f"{'role':8} {'format':7} {'dtype':9} {'weights':>9} {'load':>7} {'peak':>9} {'share':>6} {'over base':>9} "
    f"{'anon':>9} {'mapped':>9} {'used':>9} {'estimate':>8} {'first':>7} {'tokens/s':>8} right"
)


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table: sizes in MB of 10^6 bytes; `share` is the peak while loading over the weights."""
    megabytes = [
        row["weights_bytes"], row["loaded"]["peak"], row["loaded"]["anonymous"], row["loaded"]["mapped"],
        row["used"]["peak"],
    ]  # fmt: skip
    weights, peak, anonymous, mapped, used = (f"{size / 1e6:9,.1f}" for size in megabytes)
    estimate = f"{row['estimate_share']:8.3f}" if "estimate_share" in row else f"{'':8}"
    speed = f"{row['first_token_s']:6.1f}s {row['tokens_per_s']:8.2f}" if "tokens_per_s" in row else f"{'':16}"
    return (
        f"{row['role']:8} {row['format']:7} {row['dtype']:9} {weights} {row['load_s']:6.1f}s {peak} "
        f"{row['load_peak_share']:6.3f} {row['load_peak_share_over_base']:9.3f} {anonymous} {mapped} {used} {estimate} "
        f"{speed} {'yes' if row['weights_right'] else 'NO'}"
    )


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    return "\n".join([HEADER, *(line(row) for row in result["rows"])])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=run.__doc__)
    parser.add_argument("--model", default="1b_lyrics", help="a model of conf/model/; mini takes seconds")
    parser.add_argument("--roles", nargs="+", default=ROLES, choices=ROLES)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=list(DTYPES))
    parser.add_argument("--known", type=int, default=64, help="tokens read before the first new one")
    parser.add_argument("--new", type=int, default=32, help="tokens sampled, two or more")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    parser.add_argument("--scratch", help="folder with room for one file; a temporary one by default")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
