"""`pulltrace local` shows pulls that are shorter than a poll interval, and does not mistake tagging or imports for
pulls.
"""

import pytest

from tests.e2e.programs import Api, Program
from tests.real.archives import CTR, Ctr, feed, oci_archive
from tests.real.containerd import Containerd
from tests.real.images import make_image, make_layer
from tests.real.process import free_port
from tests.real.registry import Registry

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not CTR, reason="ctr is needed: `make parts` installs it"),
]

KIB = 1 << 10


async def test_ten_small_images_appear_as_ten_pulls_and_a_cached_image_appears_as_the_eleventh_pull(
    node: Containerd, registry: Registry
) -> None:
    images = [make_image(make_layer(64 * KIB)) for _ in range(10)]
    refs = [registry.push(f"team/app-{number}:1", image) for number, image in enumerate(images)]
    port = free_port()
    addresses = {"HTTP_ADDR": f"127.0.0.1:{port}", "METRICS_ADDR": f"127.0.0.1:{free_port()}"}
    ctr = Ctr(node.socket)
    async with Program("local", CONTAINERD_SOCKET=str(node.socket), NODE_NAME="box", **addresses), Api(port) as api:
        await api.ready()
        await api.reported()
        for ref in refs:
            await node.cri.pull(ref)
        shown = await api.until(lambda pulls: len(pulls) == 10 and all(pull.get("completedAt") for pull in pulls))
        assert {(pull["imageRef"], pull["status"], pull["imageBytes"], pull["downloadedBytes"]) for pull in shown} == {
            (ref, "completed", image.size, image.size) for ref, image in zip(refs, images, strict=True)
        }
        await node.cri.pull(refs[0])
        shown = await api.until(lambda pulls: len(pulls) == 11 and all(pull.get("completedAt") for pull in pulls))
        [again] = [pull for pull in shown if pull["cachedBytes"]]
        assert (again["imageRef"], again["cachedBytes"], again["downloadedBytes"]) == (refs[0], images[0].size, 0)
        await ctr.run("images", "tag", refs[0], "registry.test/tagged:1")
        archive = oci_archive({"registry.test/imported:1": make_image(make_layer(64 * KIB))})
        await feed(await ctr.start_import("--no-unpack"), archive)
        last = registry.push("team/last:1", make_image(make_layer(64 * KIB)))
        await node.cri.pull(last)
        shown = await api.until(lambda pulls: any(pull["imageRef"] == last for pull in pulls))
        others = {pull["imageRef"] for pull in shown if not pull.get("imported")} - {*refs, last}
        assert not others, f"neither a tag command nor an import is a pull: {shown}"
