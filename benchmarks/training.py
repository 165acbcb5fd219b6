"""Speed of a training step of small_prior against a plain implementation, and the share of time spent on data loading.

The plain implementation is in this file: attention with a full mask, torch's Adam, no activation checkpointing. It
copies the weights of ours, and must have the same loss. Depth and context are reduced for a CPU; widths are those of
small_prior. ``python -m benchmarks.training --help``; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.transformer import Block
from jukebox_core.families.jukebox.training.batch import PriorBatch
from jukebox_core.families.jukebox.training.prior import PriorStep
from jukebox_core.models.presets import load_preset
from jukebox_core.training.config import DevicesConfig, LoopConfig, OptimiserConfig, ScheduleConfig, Training
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.log import METRICS_NAME, read_entries
from jukebox_core.training.loop import LOG_FOLDER, Subject, TrainingLoop
from jukebox_core.training.optimiser import UpstreamAdam

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jukebox_core.families.jukebox.config import PriorConfig


class PlainLayer(nn.Module):
    """A transformer layer with full attention under a boolean mask [T, T], true where a query attends to a key."""

    def __init__(self, width: int, heads: int, seen_TT: Tensor) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * (width // 4)), nn.Linear(width // 4, width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("seen_TT", seen_TT, persistent=False)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Returns x after the layer."""
        q, k, v = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for each in self.query_key_value(self.before(x_BTW)).chunk(3, dim=2)
        )
        scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~self.seen_TT, -1e9).softmax(-1) * self.seen_TT.any(-1)[:, None]
        x_BTW = x_BTW + self.out((weights @ v).transpose(1, 2).flatten(2))
        hidden = self.up(self.between(x_BTW))
        return x_BTW + self.down(hidden * torch.sigmoid(1.702 * hidden))


class PlainPrior(nn.Module):
    """A plain implementation of small_prior without labels."""

    def __init__(self, config: PriorConfig, bins: int) -> None:
        super().__init__()
        sizes = config.transformer
        rows = torch.arange(config.context) // (config.context // (sizes.blocks or 1))
        columns = torch.arange(config.context) % (config.context // (sizes.blocks or 1))
        earlier = torch.ones(config.context, config.context, dtype=torch.bool).tril()
        kinds = (
            earlier & (rows[:, None] == rows),  # the same row
            earlier & (columns[:, None] == columns),  # the same column
            rows[:, None] == rows + 1,  # the row before
        )
        self.tokens = nn.Embedding(bins, sizes.width)
        self.positions = nn.Parameter(torch.zeros(config.context, sizes.width))
        self.start = nn.Parameter(torch.zeros(sizes.width))
        self.layers = nn.ModuleList(PlainLayer(sizes.width, sizes.heads, kinds[n % 3]) for n in range(sizes.depth))

    def forward(self, codes_BT: Tensor) -> Tensor:
        """Returns the loss in bits per token."""
        start = self.start.expand(len(codes_BT), 1, -1)
        x_BTW = torch.cat([start, self.tokens(codes_BT[:, :-1])], dim=1) + self.positions
        for layer in self.layers:
            x_BTW = layer(x_BTW)
        logits = F.linear(x_BTW, self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), codes_BT.flatten()) / torch.log(torch.tensor(2.0))

    @torch.no_grad()
    def copy_weights(self, prior: Prior) -> None:
        """Copies the weights of ours."""
        self.tokens.weight.copy_(prior.body.embedding.weight)
        self.positions.copy_(prior.body.position_PW)
        for plain, ours in zip(self.layers, prior.body.transformer.typed_blocks, strict=True):
            pairs = [
                (plain.before, ours.norm_attention), (plain.between, ours.norm_feed_forward),
                (plain.query_key_value, ours.attention.project_in), (plain.out, ours.attention.project_out),
                (plain.up, ours.feed_forward.project_in), (plain.down, ours.feed_forward.project_out),
            ]  # fmt: skip
            for linear, theirs in pairs:
                linear.weight.copy_(theirs.weight if isinstance(linear, nn.LayerNorm) else theirs.weight.T)
                linear.bias.copy_(theirs.bias)


def sizes(depth: int, context: int) -> tuple[PriorConfig, Any]:
    """Returns small_prior, reduced, and its VQ-VAE."""
    model = load_preset("small_prior")
    top = model.network.priors[1]
    blocks = max(1, context // 128)  # rows of 128 tokens, as small_prior has them
    cut = replace(top.transformer, depth=depth, blocks=blocks)
    return replace(top, context=context, transformer=cut), model.network.vqvae


def subjects(depth: int, context: int, batch: int) -> dict[str, tuple[nn.Module, Callable[[], Tensor]]]:
    """Returns both models, each with a function that computes the loss of the same batch, by name."""
    config, vqvae = sizes(depth, context)
    torch.manual_seed(0)
    prior, plain = Prior(config, vqvae), PlainPrior(config, vqvae.bins)
    plain.copy_weights(prior)
    codes = torch.randint(vqvae.bins, (batch, context))
    rows = torch.zeros(batch, 3, dtype=torch.int64)
    given, step = PriorBatch(codes, rows, None, torch.full((batch, 2), torch.nan)), PriorStep(prior)
    return {"ours": (step, lambda: step(given)[0]), "plain": (plain, lambda: plain(codes))}


def steps(depth: int, context: int, batch: int, count: int) -> dict[str, Any]:
    """Returns the median CPU seconds of interleaved steps of both, their ratio, and their first losses."""
    both = subjects(depth, context, batch)
    optimisers: dict[str, torch.optim.Optimizer] = {
        "ours": UpstreamAdam(both["ours"][0].parameters(), OptimiserConfig()),
        "plain": torch.optim.Adam(both["plain"][0].parameters(), lr=3e-4),
    }
    first: dict[str, float] = {}
    took: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(count + 1):
        for name, (module, loss) in both.items():
            began = time.thread_time()
            found = loss()
            found.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimisers[name].step()
            optimisers[name].zero_grad()
            took[name].append(time.thread_time() - began)
            first.setdefault(name, float(found.detach()))
    medians = {name: statistics.median(times[1:]) for name, times in took.items()}
    return {"seconds": medians, "ratio": medians["ours"] / medians["plain"], "losses": first}


def peak(name: str, depth: int, context: int, batch: int) -> None:
    """Prints the peak memory in bytes that two steps of one model add to the process."""
    module, loss = subjects(depth, context, batch)[name]
    optimiser = UpstreamAdam(module.parameters(), OptimiserConfig())
    before = peak_bytes()
    for _ in range(2):
        loss().backward()
        optimiser.step()
        optimiser.zero_grad()
    print(peak_bytes() - before)


def peak_bytes() -> int:
    """Returns the peak memory of this process; that of getrusage includes its parent's."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def data_share(codes: Path, workers: int, count: int) -> float:
    """Returns the share of a step of mini's top prior that is spent waiting for windows of a folder of codes."""
    from jukebox_core.datasets.windows import CodeWindows
    from jukebox_core.families.jukebox.checkpoints.initialise import new_prior
    from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
    from jukebox_core.families.jukebox.training.batch import collate
    from jukebox_core.families.jukebox.training.prior import LabelledWindows
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.resolve import obtain_vocabularies

    mini = load_preset("mini")
    config, top = mini.config.priors[2], mini.config.top
    with tempfile.TemporaryDirectory() as folder:
        files = obtain_vocabularies(mini.files, WeightsConfig(folder=folder))
        known = load_vocabularies({role: file.path for role, file in files.items()})
        windows = CodeWindows(codes, level=top, context=config.context, augment=True)
        data = LabelledWindows(windows, config, mini.config.hops[top], known)
        how = Training(
            loop=LoopConfig(max_steps=count, batch_size=4, num_workers=workers, logging_steps=1, eval_batches=0),
            schedule=ScheduleConfig(),
        )
        step = PriorStep(new_prior(mini.config, top, 0))
        subject = Subject(name="mini", step=step, units=(Block,), collate=collate, data=data)
        fabric = start_fabric(DevicesConfig(accelerator="cpu"), "32-true")
        TrainingLoop(fabric, subject, how, Path(folder) / "run", lambda _: None).run()
        entries = read_entries(Path(folder) / "run" / LOG_FOLDER / METRICS_NAME)
    return statistics.median(entry["data_share"] for entry in entries[1:])  # the first starts workers


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--codes", type=Path, help="folder of mini's codes: measures the share of a step data take")
    parser.add_argument("--peak", choices=["ours", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cut = options.depth, options.context, options.batch
    if options.peak:
        peak(options.peak, *cut)
        return
    found: dict[str, Any] = {"depth": options.depth, "context": options.context, "batch": options.batch}
    found |= steps(*cut, options.steps)
    flags = ["--depth", str(options.depth), "--context", str(options.context), "--batch", str(options.batch)]
    program = [sys.executable, "-m", "benchmarks.training", *flags]
    found["peak_bytes"] = {
        name: int(subprocess.run([*program, "--peak", name], check=True, capture_output=True, text=True).stdout)
        for name in ("ours", "plain")
    }
    if options.codes is not None:
        found["data_share"] = {workers: data_share(options.codes, workers, 8) for workers in (0, 2)}
    for name in ("ours", "plain"):
        print(f"{name:6} {found['seconds'][name]:7.3f} s a step, {found['peak_bytes'][name] / 1e6:6.0f} MB at most")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
