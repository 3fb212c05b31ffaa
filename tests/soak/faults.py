"""The soak test's faults. Each function causes one fault for a few seconds, and returns when everything works again."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from random import Random
from socket import create_connection

from pulltrace.demo.grpc_server import Behaviour
from tests.soak.cluster import Site, SoakCluster, start

Fault = Callable[[SoakCluster, Site, Random], Awaitable[None]]


async def agent_killed(cluster: SoakCluster, site: Site, random: Random) -> None:
    site.ails = True
    await site.agent.kill()
    cluster.agent_died(site)
    await asyncio.sleep(random.uniform(0, 3))
    await site.agent.start()
    site.ails = False


async def agent_restarted(cluster: SoakCluster, site: Site, random: Random) -> None:
    site.ails = True
    await site.agent.stop()
    cluster.agent_died(site)
    await site.agent.start()
    site.ails = False


async def agent_frozen(cluster: SoakCluster, site: Site, random: Random) -> None:
    site.ails = True
    site.agent.signal(signal.SIGSTOP)
    await asyncio.sleep(random.uniform(1, 5))
    site.agent.signal(signal.SIGCONT)
    site.ails = False


async def server_killed(cluster: SoakCluster, site: Site, random: Random) -> None:
    await cluster.server.kill()
    cluster.server_died()
    await asyncio.sleep(random.uniform(0, 3))
    await cluster.server.start()
    await cluster.api.ready()


async def server_frozen(cluster: SoakCluster, site: Site, random: Random) -> None:
    cluster.server.signal(signal.SIGSTOP)
    await asyncio.sleep(random.uniform(1, 4))
    cluster.server.signal(signal.SIGCONT)


async def containerd_killed(cluster: SoakCluster, site: Site, random: Random) -> None:
    site.ails = True
    await site.containerd.kill()
    await asyncio.sleep(random.uniform(0.5, 3))
    await start(site)
    site.ails = False


async def containerd_silent(cluster: SoakCluster, site: Site, random: Random) -> None:
    await _behaviour(site, Behaviour.SILENT, random)


async def containerd_garbage(cluster: SoakCluster, site: Site, random: Random) -> None:
    await _behaviour(site, Behaviour.INVALID, random)


async def network_cut(cluster: SoakCluster, site: Site, random: Random) -> None:
    await _wire(site, site.wire.cut, random)


async def network_one_way(cluster: SoakCluster, site: Site, random: Random) -> None:
    await _wire(site, site.wire.one_way, random)


async def network_slow(cluster: SoakCluster, site: Site, random: Random) -> None:
    await _wire(site, lambda: site.wire.slow(2000), random)


async def network_refuses(cluster: SoakCluster, site: Site, random: Random) -> None:
    await _wire(site, site.wire.refuse, random)


async def network_resets(cluster: SoakCluster, site: Site, random: Random) -> None:
    await _wire(site, site.wire.reset, random)


async def kubernetes_fails(cluster: SoakCluster, site: Site, random: Random) -> None:
    cluster.api_server.trouble.status = random.choice((401, 403, 429, 500, 503))
    await cluster.api_server.cut()
    await asyncio.sleep(random.uniform(1, 4))
    cluster.api_server.trouble.status = 0


async def kubernetes_forgets(cluster: SoakCluster, site: Site, random: Random) -> None:
    cluster.api_server.compact()
    await cluster.api_server.cut()


async def readers_deaf(cluster: SoakCluster, site: Site, random: Random) -> None:
    with ExitStack() as sockets:
        for _ in range(random.randint(10, 100)):
            source = (
                "127.0.0.2",
                0,
            )  # a single address may use half of all streams
            deaf = sockets.enter_context(create_connection(("127.0.0.1", cluster.port), source_address=source))
            deaf.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: soak\r\n\r\n")
        await asyncio.sleep(random.uniform(1, 4))


FAULTS: dict[Fault, int] = {
    agent_killed: 2,
    agent_restarted: 1,
    agent_frozen: 2,
    server_killed: 1,
    server_frozen: 1,
    containerd_killed: 2,
    containerd_silent: 2,
    containerd_garbage: 2,
    network_cut: 2,
    network_one_way: 2,
    network_slow: 2,
    network_refuses: 1,
    network_resets: 2,
    kubernetes_fails: 2,
    kubernetes_forgets: 1,
    readers_deaf: 1,
}
"""The relative frequency of each fault."""
KILLS_SERVER = frozenset({server_killed})
KILLS_AGENT = frozenset({agent_killed, agent_restarted})


async def _behaviour(site: Site, behaviour: Behaviour, random: Random) -> None:
    site.ails = True
    site.containerd.behave(behaviour)
    await asyncio.sleep(random.uniform(1, 4))
    site.containerd.behave(Behaviour.NORMAL)
    site.ails = False


async def _wire(site: Site, break_: Callable[[], None], random: Random) -> None:
    break_()
    await asyncio.sleep(random.uniform(1, 5))
    site.wire.mend()
