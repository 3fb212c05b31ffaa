"""Fuzz each target in its own process: ``python -m tests.fuzz [--seconds N] [--runs N] [target …]``.

The processes are separate because libFuzzer ends the process that runs it. Findings are stored in
``tests/fuzz/findings/``.
"""

import argparse
import re
import subprocess
import sys
import tempfile
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


def fuzz(name: str, *limits: str) -> tuple[int, str]:
    """Fuzz one target. Return the number of executions, and the last lines of the output if there was a finding."""
    FINDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pulltrace-fuzz-") as corpus:
        command = [sys.executable, "-m", "tests.fuzz.one", name, corpus, *limits]
        command += [f"-artifact_prefix={FINDINGS}/{name}-", "-timeout=20", "-rss_limit_mb=1024", "-max_len=4096"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    told = re.findall(r"^(?:#|Done )(\d+)", done.stderr, re.MULTILINE)
    return int(told[-1]) if told else 0, "" if done.returncode == 0 else done.stderr[-3000:]


def main() -> int:
    """Fuzz the targets, print a table, and fail if there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGET_NAMES], default=[])
    args = parser.parse_args()
    found = ""
    print("| target | executions | findings |\n|---|---:|---:|", flush=True)  # noqa: T201
    for name in args.targets or TARGET_NAMES:
        runs, finding = fuzz(name, f"-max_total_time={args.seconds}")
        found += finding
        print(f"| {name} | {runs:,} | {int(bool(finding))} |", flush=True)  # noqa: T201
    if found:
        print(found, file=sys.stderr)  # noqa: T201
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
