"""Runs every benchmark on a small model; prints tables, and one line of JSON last."""

from __future__ import annotations

import json

from benchmarks import full_size


def main() -> None:
    """Runs what there is."""
    result = full_size.run("mini")
    print(full_size.table(result))
    print(json.dumps([result]))


if __name__ == "__main__":
    main()
