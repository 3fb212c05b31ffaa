"""The project is written in plain English, without words that tend to make a sentence hard to read.

The list of words is derived from the rules in CONTRIBUTING.md. The check covers docs, YAML files, and the names,
docstrings and comments in Python files. It also covers the comments in the page's source code, and the texts that the
page shows.
"""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TELLTALE = re.compile(
    r"(?<![A-Za-z])(?:told|tells|telling|untold|anew|heard|hears|whom|whoever|at the most|for want of|of whose"
    r"|asked for|is asked|speaks of|of nothing there|for ever|taken for|taken to be|goes on|has come|have come|is said"
    r"|looks again|nobody's|some seconds|of our own|at the latest)(?![A-Za-z])",
    re.IGNORECASE,
)
NOT_PROSE = (
    "test_english.py",
    "containerd_api/",
    "cri_api/",
    "messages.toml",
    "package-lock.json",
    "LICENSE",
    "go.sum",
)


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if not any(part in name for part in NOT_PROSE)]


def prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each comment, docstring, function name and class name."""
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_docstring = token.type == tokenize.STRING and token.string.startswith('"""')
        if token.type == tokenize.COMMENT or is_docstring:
            yield token.start[0], token.string
        elif token.type == tokenize.NAME and before in ("def", "class"):
            yield token.start[0], token.string.replace("_", " ")
        before = token.string


def prose_of(name: str) -> Iterator[tuple[int, str]]:
    text = (ROOT / name).read_text()
    if name.endswith(".py"):
        yield from prose_of_python(text)
    elif name.endswith(".md"):
        yield from enumerate(
            re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.S).splitlines(), 1
        )
    elif name.endswith(".toml"):
        yield from ((number, line) for number, line in enumerate(text.splitlines(), 1) if "#" in line)
    else:
        yield from enumerate(text.splitlines(), 1)


NAMES = tracked("*.py", "*.md", "*.yaml", "*.yml", "*.toml", "*.tpl", "*.txt", "web/src/*.ts", "web/src/*.tsx")


@pytest.mark.parametrize("name", NAMES)
def test_no_file_contains_a_listed_word(name: str) -> None:
    found = [
        f"{name}:{number}: {match[0]!r} in {text.strip()[:100]!r}"
        for number, text in prose_of(name)
        for match in TELLTALE.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("sentence", ["What is told stays.", "Of nothing there is none.", "at the most 512 layers"])
def test_the_check_finds_the_listed_words(sentence: str) -> None:
    assert TELLTALE.search(sentence)
