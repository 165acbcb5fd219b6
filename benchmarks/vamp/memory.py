"""Memory of variations at the official sizes: the peak of a process that samples, beside the estimate.

``python -m benchmarks.vamp.memory`` writes a file of random weights for each transformer, loads it in a process of its
own in each precision, computes a pass over a whole chunk, and prints the peak of the process's resident memory, what it
holds then, and the estimate; JSON in the last line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.full_size import Memory, machine
from benchmarks.vamp.__main__ import WAYS, Way, chunk_state, random_model, with_layers
from jukebox_core.families.vampnet.checkpoints.loading import load_transformer
from jukebox_core.families.vampnet.config import C2F, COARSE, ROLE_OF, CodecConfig
from jukebox_core.families.vampnet.engine import converted
from jukebox_core.families.vampnet.model.codec import Codec
from jukebox_core.families.vampnet.sampling.memory import estimate_bytes
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.vampnet.config import VampNetConfig

_CODEC = CodecConfig(encoder_dim=1, encoder_rates=(768,), decoder_dim=2, decoder_rates=(768,), n_codebooks=14)


def write_transformer(config: VampNetConfig, role: str, path: Path) -> None:
    """Writes a file of random weights in half precision."""
    model = random_model(config.sizes(role))
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_safetensors(weights, path, {"kwargs": asdict(model.config)})


def sample(path: Path, dtype: str, steps: int) -> dict[str, int]:
    """Loads a transformer, computes a pass, and returns the peak and the size of this process in bytes."""
    torch.set_num_threads(1)
    model = converted(load_transformer(path, Codec(_CODEC)), dtype)
    Way(model, parity=False).turn(chunk_state(model.config, steps, 1), measured=True)
    now = Memory.now()  # the peak that getrusage knows is at least that of the process that started this one
    return {"peak": now.peak, "held": now.resident}


def run(names: Sequence[str] = WAYS, layers: int | None = None) -> dict[str, Any]:
    """Returns peak, final size and estimate of each transformer and precision, in bytes."""
    config, rows = with_layers(load_preset("vampnet").config, layers), []
    levels = {role: level for level, role in ROLE_OF.items()}
    with tempfile.TemporaryDirectory() as folder:
        for role in (COARSE, C2F):
            path = Path(folder) / f"{role}.safetensors"
            write_transformer(config, role, path)
            for name in names:
                chunk = str(config.network.chunk(role))
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.vamp.memory", "--sample", str(path), name, chunk],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                found = json.loads(done.stdout.splitlines()[-1])
                estimate = estimate_bytes(config, [levels[role]], name, 1, together=False)
                rows.append({"role": role, "dtype": name, **found, "estimate": estimate})
            path.unlink()
    return {"benchmark": "vamp_memory", "machine": machine(), "layers": layers, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a line for each transformer and precision, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vamp.memory", description=__doc__)
    parser.add_argument("--ways", dest="names", nargs="+", default=list(WAYS), choices=list(WAYS), help="precisions")
    parser.add_argument("--layers", type=int, help="reduced number of layers")
    parser.add_argument("--sample", nargs=3, metavar=("PATH", "DTYPE", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.sample:
        path, dtype, steps = options.sample
        print(json.dumps(sample(Path(path), dtype, int(steps))))
        return
    result = run(options.names, options.layers)
    for row in result["rows"]:
        sizes = "  ".join(f"{name} {row[name] / 1e6:,.0f} MB" for name in ("peak", "held", "estimate"))
        print(f"{row['role']:<8}{row['dtype']:<10}{sizes}  peak of estimate {row['peak'] / row['estimate']:.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
