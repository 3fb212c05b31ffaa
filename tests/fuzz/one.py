"""Fuzz one target after another. Each target runs until it reaches a limit or finds a problem: ``python -m
tests.fuzz.one FOLDER TARGET,… [libFuzzer flags]``. Each target's output and exit status are written to ``TARGET.log``
and ``TARGET.status``.
"""

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import atheris

with atheris.instrument_imports(include=["pulltrace"]):
    from tests.fuzz.targets import TARGETS


def fuzz(name: str, folder: Path, flags: list[str]) -> NoReturn:
    """Fuzz one target. This function never returns, because libFuzzer exits the process."""
    target, seeds = TARGETS[name]
    corpus = folder / name
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, sys.stderr.fileno())
    atheris.Setup([sys.argv[0], str(corpus), *flags], target)
    atheris.Fuzz()
    raise AssertionError("libFuzzer returned")


def main() -> None:
    """Fuzz each target in a forked child, so that the modules are instrumented only once. Instrumenting the modules
    takes longer than a short run.
    """
    logging.disable(logging.CRITICAL)
    folder, names, *flags = sys.argv[1:]
    for name in names.split(","):
        child = os.fork()
        if not child:
            fuzz(name, Path(folder), [flag.replace("TARGET", name) for flag in flags])
        _, status = os.waitpid(child, 0)
        Path(folder, f"{name}.status").write_text(str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main()
