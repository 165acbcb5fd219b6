"""Makes this folder from the whole set of golden vectors: python tests/golden_vampnet/pack.py <whole set>."""

import io
import lzma
import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CHOSEN = (
    "environment.json",
    "codec/*",
    "embedding/*",
    "interface/*",
    "masks/*",
    "models/checkpoints.json",
    "models/vampnet/*.pth",
    "models/vampnet/loras/tiny/*.pth",
    "models/variants/*.pth",
    "pipeline/*",
    "runs/*/*/*/*.pth",
    "sampling/*",
    "training/*",
    "transformer/*",
)
# Arrays that others imply: noise and logits of passes that the seed gives as well, layers of the network.
LEFT_OUT_OF = {
    "c2f_batch.npz": re.compile(r".*\.step\d+\..*"),
    "c2f_main.npz": re.compile(r".*\.step\d+\.(exp_noise|uniform)"),
}
LEFT_OUT = re.compile(
    r"steps?\d*\.step\d+\..*|(?!main|parity|temp0|top_p08\.).*\.step\d+\.(logits|exp_noise|uniform)"
    r"|parity\.step\d+\.logits|main\.step(?!00|11)\d+\.logits|top_p08\.step.*logits"
    r"|.*\.encoder_out|.*\.from_codes_z|.*\.activations|.*\.probs_kept_inf|.*newmask\.(?!periodic|onset).*"
    r"|.*\.lora_saved_after_eval\..*|c2f.*\.lora_file_on_base\..*"
)
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}]


def content_of(file: Path) -> bytes:
    """The bytes to pack for `file`."""
    if file.suffix != ".npz":
        return file.read_bytes()
    buffer = io.BytesIO()
    with np.load(file) as arrays:
        patterns = [LEFT_OUT, *([LEFT_OUT_OF[file.name]] if file.name in LEFT_OUT_OF else [])]
        kept = {name: arrays[name] for name in arrays.files if not any(each.fullmatch(name) for each in patterns)}
        np.savez(buffer, **kept)  # not compressed, so that the one compression around it can do its work
    return buffer.getvalue()


def main(whole: Path) -> None:
    total = 0
    for file in sorted({file for pattern in CHOSEN for file in whole.glob(pattern) if file.is_file()}):
        packed = HERE / f"{file.relative_to(whole)}.xz"
        packed.parent.mkdir(parents=True, exist_ok=True)
        packed.write_bytes(lzma.compress(content_of(file), filters=FILTERS))
        total += packed.stat().st_size
    print(f"{total:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
