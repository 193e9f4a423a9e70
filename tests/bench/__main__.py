"""`python -m tests.bench [--json] [--quick] [--only X]`: measure, and print one table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.bench.capacity import measure_capacity, measure_snapshots
from tests.bench.console_look import measure_keys, measure_looks, measure_start
from tests.bench.console_path import measure_blocked, measure_console, measure_viewer
from tests.bench.flow_cost import measure_flow_cost
from tests.bench.latency import measure_latency
from tests.bench.load_tool import is_compiled
from tests.bench.path_cost import FLOWS, SIZES, PathCase, measure_path_cost
from tests.bench.row import Row, table
from tests.bench.rtunnel_cost import (
    QUICK_CONNECTS,
    QUICK_SESSIONS,
    measure_bulk,
    measure_connects,
    measure_idle,
    measure_streams,
    measure_trips,
)

Measurement = Callable[[], list[Row]]


def measurements(rate: float = 0.0) -> dict[str, Measurement]:
    """Everything that is measured, by the name that `--only` looks for."""
    path = {
        f"path {direction} {flows}": partial(measure_path_cost, PathCase(direction, flows, SIZES, rate))
        for flows in FLOWS
        for direction in ("up", "down")
    }
    return {
        **path,
        "capacity up": partial(measure_capacity, "up"),
        "capacity down": partial(measure_capacity, "down"),
        "latency": measure_latency,
        "snapshots up": partial(measure_snapshots, "up"),
        "snapshots down": partial(measure_snapshots, "down"),
        "console looks": measure_looks,
        "console start": measure_start,
        "console keys": measure_keys,
        "console path": measure_console,
        "console blocked": measure_blocked,
        "viewer": measure_viewer,
        "flows 10000": partial(measure_flow_cost, 10_000),
        "flows 50000": partial(measure_flow_cost, 50_000),
        "rtunnel bulk": measure_bulk,
        "rtunnel trips": measure_trips,
        "rtunnel streams": measure_streams,
        "rtunnel idle": measure_idle,
        "rtunnel connects": measure_connects,
    }


def quick_measurements(rate: float = 0.0) -> dict[str, Measurement]:
    """The path alone, 1200 bytes, one flow and 64; and RTunnel with less of everything."""
    path = {
        f"path {direction} {flows}": partial(measure_path_cost, PathCase(direction, flows, SIZES[-1:], rate))
        for flows in (1, 64)
        for direction in ("up", "down")
    }
    return {
        **path,
        "rtunnel bulk": partial(measure_bulk, quick=True),
        "rtunnel trips": partial(measure_trips, quick=True),
        "rtunnel idle": partial(measure_idle, QUICK_SESSIONS),
        "rtunnel connects": partial(measure_connects, QUICK_CONNECTS),
    }


def main() -> None:
    """Run the chosen measurements. A failed one is named and makes the exit status 1."""
    options = _options()
    every = (quick_measurements if options.quick else measurements)(options.rate)
    chosen = {name: measure for name, measure in every.items() if options.only in name}
    if not chosen:
        sys.exit(f"--only {options.only}: found in none of {', '.join(every)}")
    rows, failed, began = [], [], time.monotonic()
    for name, measure in chosen.items():
        print(f"{time.monotonic() - began:4.0f} s  {name}", file=sys.stderr, flush=True)
        try:
            rows += measure()
        except (RuntimeError, AssertionError, OSError) as error:
            failed.append(f"{name}: {error}")
    _print(rows, as_json=options.json)
    print(f"{time.monotonic() - began:4.0f} s  done", file=sys.stderr, flush=True)
    if failed:
        sys.exit("\n".join(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only CPU time at 1200 bytes, 1 and 64 flows, and less of RTunnel",
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="NAME",
        help=f"those in whose name this is found: {', '.join(measurements())}",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        help="datagrams/s of the CPU rows, less if that loses [default: by a search]",
    )
    return parser.parse_args()


def _print(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(row._asdict()))
    elif rows:
        print(table(rows))
        if not is_compiled():
            print("There is no C compiler: generator, sink and forwarder were Python; ratios mean little.")


if __name__ == "__main__":
    main()
