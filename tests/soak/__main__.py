"""Run the soak test, as ``make soak`` does: ``python -m tests.soak --minutes 30 --seed 7``. The command prints a table,
and exits with status 1 if an invariant was violated.
"""

import argparse
import asyncio
import os
import sys

from tests.soak.soak import Result, Soak


def table(result: Result) -> str:
    """Return the results as Markdown."""
    lines = [f"Seed {result.seed}, {result.seconds / 60:.1f} minutes.", "", "| what | seen |", "|---|---:|"]
    lines += [f"| {name} | {count:,} |" for name, count in result.counts.items()]
    lines += [f"| comparisons of {name} | {count:,} |" for name, count in sorted(result.checks.items())]
    lines += [
        f"| wrong | {len(result.wrong)} |",
        "",
        "| fault | times | right again after, s: median, worst |",
        "|---|---:|---:|",
    ]
    for name, times in sorted(result.recovered.items()):
        lines.append(f"| {name} | {len(times)} | {sorted(times)[len(times) // 2]:.1f}, {max(times):.1f} |")
    lines += ["", "| process | lived, s | MiB after its first minute | most | last |", "|---|---:|---:|---:|---:|"]
    for life in result.lives:
        if life.samples > 60:
            lived = life.samples + 60
            lines.append(f"| {life.name} | {lived} | {life.first:.1f} | {life.most:.1f} | {life.last:.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--speed", type=float, default=3)
    args = parser.parse_args()
    os.environ["GRPC_VERBOSITY"] = "NONE"  # otherwise gRPC prints a line whenever containerd is killed during a call
    soak = Soak(seed=args.seed, seconds=60 * args.minutes, nodes=args.nodes, speed=args.speed)
    result = asyncio.run(soak.run())
    print(table(result))
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
