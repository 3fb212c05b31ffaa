"""Make the chart's README from the comments in its values.yaml.

``chart_readme.py`` writes it, ``chart_readme.py --check`` exits 1 when it is stale. A comment that begins with ``--``
describes the value under it; ``@section`` opens a section. A value without a description is an error.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).parents[2] / "charts" / "pulltrace"
_KEY = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z]\w*):(?P<inline>.*)$")


class Value(NamedTuple):
    """One documented value: its path, as ``--set`` wants it, and its default."""

    section: str
    path: str
    text: str
    default: Any


def documented(chart: Path = CHART) -> Iterator[Value]:
    """The values that carry a comment, in the file's order."""
    source = (chart / "values.yaml").read_text()
    defaults = yaml.safe_load(source)
    section, text, path = "", [], []
    for line in source.splitlines():
        if comment := re.match(r"^ *# ?(.*)$", line):
            words = comment[1]
            if words.startswith("@section "):
                section = words.removeprefix("@section ")
            elif words.startswith("-- "):
                text = [words.removeprefix("-- ")]
            elif text:
                text.append(words)
        elif key := _KEY.match(line):
            path = [*path[: len(key["indent"]) // 2], key["name"]]
            if text:
                yield Value(section, ".".join(path), " ".join(text), _at(defaults, path))
            text = []


def _at(tree: Any, path: list[str]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def readme(chart: Path = CHART) -> str:
    """The whole README."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    home = about["home"]
    owner, name = home.removeprefix("https://github.com/").split("/")
    pages = f"https://{owner}.github.io/{name}"
    lines = [
        f"# {about['name']}",
        "",
        f"{about['description']}. Chart {about['version']}, application {about['appVersion']}, "
        f"Kubernetes {about['kubeVersion'].removesuffix('-0')}.",
        "",
        "<!-- Made from values.yaml by .github/scripts/chart_readme.py; `make chart-readme` makes it anew. -->",
        "",
        "## Install",
        "",
        "```sh",
        f"helm install pulltrace oci://ghcr.io/{owner}/charts/{name} \\",
        "  --namespace pulltrace --create-namespace \\",
        "  --set agent.runtimeSocket.risksAcknowledged=true",
        "```",
        "",
        f"or from the classic repository, `helm repo add pulltrace {pages}/charts`, then `pulltrace/pulltrace`.",
        "",
        "The flag says that you know what access to containerd's socket means; "
        f"[the threat model]({pages}/security/) says it at length. Distributions that keep the socket elsewhere: "
        "`--set agent.containerd.distribution=k3s` (or `rke2`, `k0s`, `microk8s`).",
        "",
        "```sh",
        "helm test pulltrace --namespace pulltrace      # ready, and nodes report",
        "helm uninstall pulltrace --namespace pulltrace # leaves nothing behind",
        "```",
        "",
        "## Values",
        "",
        "<!-- --8<-- [start:values] -->",  # the part docs/configuration.md includes
    ]
    section = None
    for value in documented(chart):
        if value.section != section:
            section = value.section
            lines += ["", f"### {section}", "", "| value | default | what |", "|---|---|---|"]
        default = json.dumps(value.default, ensure_ascii=False).replace("|", "\\|")
        lines.append(f"| `{value.path}` | `{default}` | {value.text.replace('|', chr(92) + '|')} |")
    return "\n".join([*lines, "", "<!-- --8<-- [end:values] -->"]) + "\n"


def main() -> int:
    """Write or check."""
    target, made = CHART / "README.md", readme()
    if "--check" not in sys.argv[1:]:
        target.write_text(made)
    elif not target.exists() or target.read_text() != made:
        print(f"{target} is stale: run `make chart-readme`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
