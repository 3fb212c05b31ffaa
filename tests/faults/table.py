"""`make reliability`: run the faults and write what was seen into docs/reliability.md, between its two markers."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path("docs/reliability.md")
BEGIN, END = "<!-- faults -->\n", "<!-- /faults -->\n"


def table(found: list[dict]) -> str:
    """The page's table, worst recovery first."""
    lines = [
        "| Fault | Expected | Right again | Lost | Agent, MiB | Server, MiB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for item in sorted(found, key=lambda item: (-item["recovered"], item["fault"])):
        memory = [f"{item['before'][half]:g} → {item['after'][half]:g}" for half in ("agent", "server")]
        seen = f"{item['recovered']:g} s | {item['lost']}"
        lines.append(f"| {item['fault']} | {item['expected']} | {seen} | {memory[0]} | {memory[1]} |")
    return "\n".join(lines) + "\n"


def write(found: list[dict]) -> None:
    """Put the table where the old one stands."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{rest.partition(END)[2]}")


def main() -> int:
    """The tests' status: a table of faults that were not survived is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faults.jsonl"
        command = [sys.executable, "-m", "pytest", "tests/faults", "-q", "-n", "4", *sys.argv[1:]]
        status = subprocess.run(command, check=False, env=os.environ | {"FAULTS_JSON": str(path)}).returncode
        if path.exists():
            write([json.loads(line) for line in path.read_text().splitlines()])
    return status


if __name__ == "__main__":
    sys.exit(main())
