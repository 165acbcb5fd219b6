"""Runs every benchmark on a small model; prints tables, and one line of JSON last."""

from __future__ import annotations

import json

from benchmarks import durability, fast, full_size


def main() -> None:
    """Runs what there is."""
    results = []
    for measured, table in (
        (full_size.run("mini"), full_size.table),
        (durability.run(), durability.table),
        (fast.quick(), lambda result: fast.table(result["rows"])),
    ):
        print(table(measured), end="\n\n")
        results.append(measured)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
