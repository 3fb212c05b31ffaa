"""Render the chart with Helm's own library (helm-python-sdk wraps Helm 4's Go code) and query the result."""

from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python.chart", reason="helm-python-sdk (Helm's own library) is not installed")
from helm_python.errors import HelmRenderError, HelmValuesError  # noqa: E402  # after the skip

__all__ = [
    "ACKNOWLEDGED",
    "CHART",
    "PLATFORMS",
    "PRESETS",
    "HelmRenderError",
    "HelmValuesError",
    "Rendered",
    "helm",
    "render",
    "values",
]

CHART = Path(__file__).parents[2] / "charts" / "pulltrace"
PRESETS = sorted((CHART / "ci").glob("*-values.yaml"))
PLATFORMS = sorted((CHART / "presets").glob("*.yaml"))
ACKNOWLEDGED = {"agent": {"runtimeSocket": {"risksAcknowledged": True}}}


class Strict(yaml.CSafeLoader):
    """A YAML loader that rejects duplicate keys, as kustomize and Argo CD do. If several values have the same key, Helm
    itself uses the last one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key) for key, _ in node.value]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"{sorted(twice)} twice{node.start_mark}"
        return super().construct_mapping(node, deep)


class Rendered:
    """The objects and the notes in a rendered release. The keys of the objects are ``Kind/name``, or
    ``Kind/namespace/name`` if that name is already taken.
    """

    def __init__(self, files: dict[str, str]) -> None:
        self.notes = next((text for path, text in files.items() if path.endswith("NOTES.txt")), "")
        self.objects: dict[str, dict[str, Any]] = {}
        self.hooks: dict[str, dict[str, Any]] = {}
        for path, text in sorted(files.items()):
            if not path.endswith("NOTES.txt"):
                for document in filter(None, yaml.load_all(text, Strict)):
                    self._add(document)

    def _add(self, document: dict[str, Any]) -> None:
        meta = document["metadata"]
        key = f"{document['kind']}/{meta['name']}"
        if "helm.sh/hook" in meta.get("annotations", {}):
            self.hooks[key] = document
        elif key not in self.objects:
            self.objects[key] = document
        else:
            self.objects[f"{document['kind']}/{meta['namespace']}/{meta['name']}"] = document

    def at(self, place: str) -> Any:
        """Return the value at a path such as ``Kind/name#spec.ports.0.port``, or None if there is none.

        ``[name]`` selects the list item with this name, and ``~`` represents a dot inside a key.
        """
        key, _, path = place.partition("#")
        found: Any = self.objects.get(key) or self.hooks.get(key)
        for step in path.split("."):
            if found is None:
                return None
            if step.startswith("["):
                found = next((item for item in found if item["name"] == step[1:-1]), None)
            elif isinstance(found, list):
                found = found[int(step)]
            else:
                found = found.get(step.replace("~", "."))
        return found


def values(*given: Any) -> dict[str, Any]:
    """Return the minimal values for an installation, merged with the given values (``{"a.b": 1}`` or nested)."""
    merged: dict[str, Any] = {}
    for one in (ACKNOWLEDGED, *given):
        for path, value in one.items():
            _set(merged, path.split("."), value)
    return merged


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    if isinstance(value, dict) and isinstance(tree.get(path[-1]), dict):
        for name, inner in value.items():
            _set(tree[path[-1]], [name], inner)
    else:
        tree[path[-1]] = yaml.safe_load(yaml.safe_dump(value))


def render(given: dict[str, Any] | None = None, *, name: str = "pulltrace", namespace: str = "pulltrace") -> Rendered:
    """Render the chart after Helm has validated the values against the schema. Helm's errors are raised unchanged."""
    with helm.Chart.load(CHART) as chart:
        return Rendered(chart.render(given or {}, name=name, namespace=namespace))
