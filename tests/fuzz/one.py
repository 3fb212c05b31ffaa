"""Fuzz one target until a limit or a finding: ``python -m tests.fuzz.one TARGET CORPUS [flags of libFuzzer]``."""

import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pulltrace"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz one target. Never returns, because libFuzzer ends the process."""
    logging.disable(logging.CRITICAL)
    name, corpus = sys.argv[1:3]
    target, seeds = TARGETS[name]
    for number, seed in enumerate(seeds):
        (Path(corpus) / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], corpus, *sys.argv[3:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
