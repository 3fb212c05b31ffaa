"""Answers with an ETag, for clients that ask whether anything is new."""

from starlette.requests import Request
from starlette.responses import Response


def is_known(request: Request, tag: str) -> bool:
    """The client has this version (RFC 9110, 13.1.2: weak comparison)."""
    asked = request.headers.get("if-none-match", "")
    return asked == "*" or any(tag == part.strip().removeprefix("W/") for part in asked.split(","))


def json_answer(body: bytes, tag: str, status: int = 200) -> Response:
    """JSON that is already encoded; of a version the client has (304) there is none."""
    return Response(body, status, {"ETag": tag, "Cache-Control": "no-cache"}, "application/json")
