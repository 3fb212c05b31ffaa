"""``/api/v1/pods`` and ``/api/v1/images``: who waits, and how rollouts go."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pulltrace.server import query
from pulltrace.server.answers import is_known, json_answer
from pulltrace.server.feed import encoder
from pulltrace.server.hub import Hub
from pulltrace.server.podview import fits, pods_waiting, rollouts
from pulltrace.wire import ImageList, PodList


def kube_routes(hub: Hub) -> list[BaseRoute]:
    """Both routes."""

    async def pods(request: Request) -> Response:
        asked = query.parse(request.query_params.multi_items())
        following = hub.following
        problem = following.problem
        tag = f'"{hub.boot_id}-{hub.feed.revision}-{following.cluster.revision}-{hash(problem):x}"'
        if is_known(request, tag):
            return json_answer(b"", tag, 304)
        waiting = pods_waiting(following.cluster.waiting(), hub.feed.pulls(), hub.now())
        found = [pod for pod in waiting if fits(pod, asked)]
        return json_answer(encoder.encode(PodList(pods=found, watching=following.sees_pods, reason=problem)), tag)

    async def images(request: Request) -> Response:
        asked = query.parse(request.query_params.multi_items())
        tag = f'"{hub.boot_id}-{hub.feed.revision}"'
        if is_known(request, tag):
            return json_answer(b"", tag, 304)
        found = rollouts(pull for pull in hub.feed.pulls() if asked.fits(pull))
        return json_answer(encoder.encode(ImageList(images=found)), tag)

    return [Route("/api/v1/pods", pods), Route("/api/v1/images", images)]
