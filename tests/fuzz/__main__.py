"""Fuzz each target in its own process: ``python -m tests.fuzz [--seconds N] [--runs N] [target …]``.

Each target needs its own process because libFuzzer exits the process in which it runs. Findings are stored in
``tests/fuzz/findings/``.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

FINDINGS = Path(__file__).parent / "findings"
TARGET_NAMES = (
    "report",
    "gzip",
    "reference",
    "manifest",
    "message",
    "kube",
    "query",
    "last-event-id",
    "token",
    "grpc",
    "answer",
)


def fuzz(names: Collection[str], *limits: str) -> dict[str, tuple[int, str]]:
    """Fuzz these targets. For each target, return the number of executions and, if it found a problem, the end of its
    output.
    """
    FINDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pulltrace-fuzz-") as folder:
        command = [sys.executable, "-m", "tests.fuzz.one", folder, ",".join(names), *limits]
        command += [f"-artifact_prefix={FINDINGS}/TARGET-", "-timeout=60", "-rss_limit_mb=1024", "-max_len=4096"]
        subprocess.run(command, check=True)
        return {name: _result(Path(folder), name) for name in names}


def _result(folder: Path, name: str) -> tuple[int, str]:
    output = (folder / f"{name}.log").read_text(errors="replace")
    told = re.findall(r"^(?:#|Done )(\d+)", output, re.MULTILINE)
    failed = (folder / f"{name}.status").read_text() != "0"
    return int(told[-1]) if told else 0, output[-3000:] if failed else ""


def main() -> int:
    """Fuzz the targets and print a table of the results. Return 1 if a target found a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGET_NAMES], default=[])
    args = parser.parse_args()
    found = ""
    print("| target | executions | findings |\n|---|---:|---:|", flush=True)  # noqa: T201
    for name in args.targets or TARGET_NAMES:
        runs, finding = fuzz([name], f"-max_total_time={args.seconds}")[name]
        found += finding
        print(f"| {name} | {runs:,} | {int(bool(finding))} |", flush=True)  # noqa: T201
    if found:
        print(found, file=sys.stderr)  # noqa: T201
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
