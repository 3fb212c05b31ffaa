"""MkDocs hooks that rewrite URLs for a fork and generate the list of decisions."""

import re
from pathlib import Path
from typing import Any

HOME = "d44b/pulltrace"


def on_config(config: Any) -> Any:
    """Point the repository link at the fork."""
    config["repo_name"] = config["extra"]["repository"]
    config["repo_url"] = f"https://github.com/{config['repo_name']}"
    return config


def on_page_content(html: str, page: Any, config: Any, **_: Any) -> str:
    """Rewrite every URL of this project so that it refers to ``extra.repository``."""
    owner, name = config["extra"]["repository"].split("/")
    if f"{owner}/{name}" == HOME:
        return html
    for ours, theirs in (
        ("ghcr.io/d44b/charts", f"ghcr.io/{owner.lower()}/charts"),
        (f"ghcr.io/{HOME}", f"ghcr.io/{owner}/{name}".lower()),
        (HOME, f"{owner}/{name}"),
        ("d44b.github.io/pulltrace", f"{owner}.github.io/{name}"),
    ):
        html = html.replace(ours, theirs)
    return html


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace ``[decisions]`` with a list of the numbered pages in the same directory."""
    if "[decisions]" not in markdown:
        return markdown
    files = sorted(Path(page.file.abs_src_path).parent.glob("[0-9]*.md"))
    items = []
    for file in files:
        heading = re.search(r"^# (.+)$", file.read_text(), re.MULTILINE)
        items.append(f"- [{heading[1] if heading else file.stem}]({file.name})")
    return markdown.replace("[decisions]", "\n".join(items))
