"""Wait until a server shows a finished pull of an image, and print the pull: ``sees_a_pull.py URL IMAGE``."""

import json
import sys
import time
from typing import Any
from urllib.request import urlopen

PATIENCE = 300.0


def finished(url: str, image: str) -> dict[str, Any] | None:
    """Return a finished pull of the image, or None if the server does not list one."""
    try:
        with urlopen(f"{url}/api/v1/pulls", timeout=10) as response:  # noqa: S310  # the URL is an argument
            pulls: list[dict[str, Any]] = json.load(response)["pulls"]
    except OSError as error:  # the port-forward is not listening yet
        print(error, file=sys.stderr)
        return None
    return next((pull for pull in pulls if pull["imageRef"] == image and pull.get("completedAt")), None)


def main(url: str, image: str) -> int:
    """Return 0 if the pull completed and all of its bytes were counted. Return 1 if that is not the case, or if
    no finished pull was shown in time.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if pull := finished(url, image):
            print(
                json.dumps(
                    {key: pull.get(key) for key in ("status", "totalBytes", "downloadedBytes", "percent", "pods")}
                )
            )
            return 0 if pull["status"] == "completed" and pull["downloadedBytes"] == pull["totalBytes"] > 0 else 1
        time.sleep(1)
    print(f"no pull of {image} was seen", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
