"""`python -m tests.bench [--json] [--flows N]`: measure, and print one table."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.bench.flow_cost import measure_flow_cost
from tests.bench.row import Row, table


def main() -> None:
    """Run every measurement."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--flows", type=int, default=10_000, help="flows of the memory rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Row] = measure_flow_cost(Path(folder), options.flows)
    if options.json:
        for row in rows:
            print(json.dumps(row._asdict()))
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
