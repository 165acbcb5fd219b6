"""Makes this folder from the whole set of golden vectors of MT3: python tests/golden_mt3/pack.py <whole set>."""

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
    "encode/*",
    "decode/*",
    "midi/*",
    "metrics/*",
    "frontend/*",
    "t5/*.json",
    "t5/*/*",
    "segmem/*.json",
    "segmem/*/*",
    "chain/*",
    "yourmt3/*",
)
LEFT_OUT = re.compile(r".*\.dec40\.(ids|logits)|greedy\..*\.step_logits(_at)?")  # arrays that others imply
# Tuned to numbers of four bytes.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}]


def content_of(file: Path) -> bytes:
    """The bytes to pack for `file`."""
    if file.suffix != ".npz":
        return file.read_bytes()
    buffer = io.BytesIO()
    with np.load(file) as arrays:
        kept = {name: values for name, values in arrays.items() if not LEFT_OUT.fullmatch(name)}
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
