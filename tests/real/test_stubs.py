"""The committed gRPC stubs are exactly those that the oldest supported tools generate from the .proto files."""

from tests.real import stubs


def test_the_committed_stubs_match_the_proto_files(tmp_path):
    stubs.generate(tmp_path)
    for package, root in stubs.PACKAGES.items():
        made = {path.name: path.read_text() for path in (tmp_path / package).glob("*_pb2*")}
        committed = {path.name: path.read_text() for path in (root / package).glob("*_pb2*")}
        assert made
        assert made == committed, f"{package}: run `make stubs`"
