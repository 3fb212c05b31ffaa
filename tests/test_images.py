"""Image references are parsed as containerd's CRI plugin parses them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulltrace.images import InvalidReferenceError, Reference, normalise, parse, registry_host

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("bitnami/kafka:4", "docker.io/bitnami/kafka:4"),
        ("localhost/foo", "localhost/foo:latest"),
        ("localhost:5000/foo:1", "localhost:5000/foo:1"),
        ("[::1]:5000/foo", "[::1]:5000/foo:latest"),
        ("ghcr.io/acme/api", "ghcr.io/acme/api:latest"),
        (f"host:5000/x@{DIGEST}", f"host:5000/x@{DIGEST}"),
        (f"nginx:1.27@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        ("Registry/x", "Registry/x:latest"),
        ("a.b/c__d/e-f--g.h:Tag_1.2", "a.b/c__d/e-f--g.h:Tag_1.2"),
    ],
)
def test_a_reference_is_completed_with_the_default_registry_and_the_default_tag(written: str, meant: str) -> None:
    assert str(parse(written)) == meant
    assert normalise(meant) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "Nginx",
        "nginx:",
        "nginx:-x",
        "nginx@sha256:short",
        "nginx@",
        "a//b",
        "/a",
        "a/",
        "host:port/x",
        "x" * 300,
        "0123456789abcdef" * 4,
        "nginx latest",
        "nginx\n",
        "-a.b/c",
        "x___y",
    ],
)
def test_an_invalid_reference_is_rejected_with_a_reason(written: str) -> None:
    with pytest.raises(InvalidReferenceError, match=r".+: .+|longer"):
        parse(written)
    assert normalise(written) == written


@given(st.text(max_size=400))
def test_any_text_is_either_parsed_as_a_reference_or_rejected(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


def test_the_name_of_an_image_does_not_include_its_tag() -> None:
    assert parse("nginx:1").name == parse(f"nginx@{DIGEST}").name == "docker.io/library/nginx"
    assert parse("nginx") == Reference("docker.io", "library/nginx", "latest")


@pytest.mark.parametrize(
    ("registry", "host"), [("docker.io", "docker.io"), ("localhost:5000", "localhost"), ("[::1]:5000", "[::1]")]
)
def test_the_registry_host_does_not_include_the_port(registry: str, host: str) -> None:
    assert registry_host(registry) == host
