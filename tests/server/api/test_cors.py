"""Tests that only the configured origins may read the API from a browser (CORS)."""

from tests.server.conftest import Serve

ALLOWED = "https://backstage.example.org"
OTHER = "https://evil.example.org"


async def test_no_other_origin_is_allowed_to_read_the_api_by_default(server: Serve) -> None:
    served = await server()
    response = await served.get("/api/v1/pulls", Origin=ALLOWED)
    assert response.status == 200
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_the_configured_origin_may_read_lists_and_the_stream(server: Serve) -> None:
    served = await server(CORS_ORIGIN=ALLOWED)
    response = await served.get("/api/v1/pulls", Origin=ALLOWED)
    assert response.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert response.headers["Access-Control-Expose-Headers"] == "ETag"
    assert "Access-Control-Allow-Origin" not in (await served.get("/api/v1/pulls", Origin=OTHER)).headers
    async with served.client.get(f"{served.url}/api/v1/events", headers={"Origin": ALLOWED}) as stream:
        assert stream.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert (await stream.content.readline()).strip()


async def test_a_preflight_response_states_which_requests_the_origin_may_send(server: Serve) -> None:
    served = await server(CORS_ORIGIN=ALLOWED)
    preflight = {
        "Origin": ALLOWED,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "If-None-Match",
    }
    async with served.client.options(f"{served.url}/api/v1/pulls", headers=preflight) as response:
        assert response.status == 200
    posting = {"Origin": ALLOWED, "Access-Control-Request-Method": "POST"}
    async with served.client.options(f"{served.url}/api/v1/report", headers=posting) as response:
        assert response.status == 400
