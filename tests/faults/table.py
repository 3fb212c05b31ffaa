"""Run the fault and attack tests for `make reliability`, and write the results between the markers in
docs/reliability.md.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path("docs/reliability.md")
BEGIN, END = "<!-- faults -->\n", "<!-- /faults -->\n"
ATTACKS_BEGIN, ATTACKS_END = "<!-- attacks -->\n", "<!-- /attacks -->\n"


def table(found: list[dict]) -> str:
    """Return the table of faults, with the slowest recovery first."""
    lines = [
        "| Fault | Expected | Recovery | Lost | Agent, MiB | Server, MiB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for item in sorted(found, key=lambda item: (-item["recovered"], item["fault"])):
        memory = [f"{item['before'][half]:g} → {item['after'][half]:g}" for half in ("agent", "server")]
        seen = f"{item['recovered']:g} s | {item['lost']}"
        lines.append(f"| {item['fault']} | {item['expected']} | {seen} | {memory[0]} | {memory[1]} |")
    return "\n".join(lines) + "\n"


def attacks_table(found: list[dict]) -> str:
    """Return the table of attacks, followed by a line for each kind of fuzzing."""
    lines = [
        "| Attack | Bound | Report, p99 | Event, p99 | `/healthz`, p99 | Server, MiB: before, peak, after |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for item in found:
        if "attack" in item:
            waits = " | ".join(f"{1000 * item['p99'][what]:.0f} ms" for what in ("report", "event", "healthz"))
            memory = " → ".join(f"{size:.0f}" for size in item["memory"])
            lines.append(f"| {item['attack']} | {item['bound']} | {waits} | {memory} |")
    fuzzed = [item for item in found if "fuzzed" in item]
    lines += [f"\nFuzzing of a raw connection: {_fuzzed(item)}." for item in fuzzed]
    lines += [
        f"\nFuzzing of pods and events: {item['objects']:,} mangled objects in lists and watches caused no traceback; "
        f"the slowest response with all pulls took {item['slowest']} ms."
        for item in found
        if "objects" in item
    ]
    return "\n".join(lines) + "\n"


def _fuzzed(item: dict) -> str:
    seen = ", ".join(f"{count:,} times {status}" for status, count in sorted(item["seen"].items()))
    return f"{item['fuzzed']:,} mutated requests caused no 500 and no traceback (responses: {seen})"


def write(text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace the table between the two markers."""
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def read(path: Path) -> list[dict]:
    """Read findings from a file with one finding per line."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> int:
    """Run the tests, write both tables, and return the exit status of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faults.jsonl"
        command = [sys.executable, "-m", "pytest", "tests/faults", "-q", "-n", "4", *sys.argv[1:]]
        attacks = Path(folder) / "attacks.jsonl"
        environment = os.environ | {"FAULTS_JSON": str(path), "ATTACKS_JSON": str(attacks)}
        status = subprocess.run(command, check=False, env=environment).returncode
        if faults := read(path):
            write(table(faults))
        if found := read(attacks):
            write(attacks_table(found), ATTACKS_BEGIN, ATTACKS_END)
    return status


if __name__ == "__main__":
    sys.exit(main())
