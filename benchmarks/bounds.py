"""What memory, metric series and roots come to when a program asks too much of the plugin, at full size.

    python benchmarks/bounds.py            all floods, 6 to 10 minutes
    python benchmarks/bounds.py NAME …     some of them

Each flood runs in a fresh process; tests/_floods.py says what each does, and tests/torture/test_bounds.py holds smaller
ones to limits. `grown` is how much the process's peak grew over that of 300 ordinary runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from _floods import poured

FULL = {
    "short_runs": 100_000,
    "one_long_trace": 10_000,
    "one_remote_trace": 10_000,
    "tool_names": 100_000,
    "agent_names": 100_000,
    "cache_names": 100_000,
    "error_types": 20_000,
    "never_ending_roots": 200_000,
    "never_ending_children": 200_000,
    "never_ending_agents": 200_000,
    "one_large_run": 100_000,
    "open_runs": 400_000,
    "many_findings": 9_000,
    "large_queries": 1_000,
    "large_attributes": 1_000,
    "large_names": 1_000,
    "dead_exporter": 10_000,
    "stalled_exporter": 10_000,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("flood", nargs="*", metavar="NAME", help=f"all unless given: {', '.join(FULL)}")
    told = parser.parse_args()
    unknown = ", ".join(set(told.flood) - FULL.keys())
    if unknown:
        parser.error(f"no flood is called {unknown}; there are {', '.join(FULL)}")
    heading = f"{'flood':24}{'count':>9}{'s':>8}{'grown MB':>10}{'reports':>9}{'incomplete':>12}"
    print(f"{heading}{'series':>8}{'root':>9}  dropped")
    for flood in told.flood or FULL:
        seen = poured(flood, FULL[flood])
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in seen["dropped"].items()) or "0"
        print(
            f"{flood:24}{seen['count']:9,}{seen['seconds']:8.1f}{seen['grown_mb']:10.1f}{seen['reports']:9,}"
            f"{seen['incomplete']:12,}{seen['most_series']:8,}{seen['largest_root']:9,}  {dropped}",
            flush=True,
        )


if __name__ == "__main__":
    main()
