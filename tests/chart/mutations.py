"""Small changes to valid values: a field that is missing, unknown, duplicated, of the wrong type or out of range."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

TEXTS = ["", " ", "a b", "Upper_Case", "-a", "a/b/c", "../a", "a:b", "x" * 300, 1, True]
NUMBERS = [-1, 0, 2, 100000, 2**31, 2**33, 1.5, "1", "a"]
OTHERS: list[Any] = ["a", 1, [], {}]

Path = tuple[str | int, ...]


def mutations(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield each change as a path and the new value at that path. The value ``...`` removes the field."""
    if isinstance(value, dict):
        yield (*path, "unknown"), "a"
        for name, inner in value.items():
            yield (*path, name), ...
            yield from mutations(inner, (*path, name))
    elif isinstance(value, list):
        yield path, []
        yield path, value + value[:1]
        for one, other in itertools.pairwise(value):
            if isinstance(one, dict):
                yield path, [one | other]
        for index, inner in enumerate(value):
            yield from mutations(inner, (*path, index))
    elif isinstance(value, bool):
        yield path, not value
        yield path, "true"
    else:
        yield from ((path, other) for other in (TEXTS if isinstance(value, str) else NUMBERS) if other != value)
    yield from ((path, other) for other in OTHERS if type(other) is not type(value))


def changed(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of the value with one change."""
    # The same object may occur in two places. In a deep copy, both places would still share one object, so a change to
    # one would affect both. A JSON round trip creates separate objects.
    whole = {"": json.loads(json.dumps(value))}
    holder: Any = whole
    *steps, last = ("", *path)
    for step in steps:
        holder = holder[step]
    if new is ...:
        del holder[last]
    else:
        holder[last] = new
    return whole[""]
