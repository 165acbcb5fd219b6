"""Runs quick benchmarks on small models or few layers of large ones; prints tables, and one line of JSON last.

They give shares and ratios within a minute; run the benchmarks themselves for the figures of whole models.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from benchmarks import durability, fast, full_size, sound

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Runs all of them."""
    began = time.monotonic()
    benchmarks: tuple[tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], str]], ...] = (
        (fast.quick, lambda result: fast.table(result["rows"])),
        (sound.quick, sound.table),
        (lambda: full_size.run("mini", roles=("vqvae", "level_2"), formats=("zip",)), full_size.table),
        (durability.run, durability.table),
    )
    results = []
    for run, table in benchmarks:
        measured = run()
        print(table(measured), end="\n\n", flush=True)
        results.append(measured)
    print(json.dumps({"benchmark": "all", "seconds": round(time.monotonic() - began, 1), "results": results}))


if __name__ == "__main__":
    main()
