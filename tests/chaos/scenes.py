"""Services and servers to break, and how they are broken."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from redis import Redis

from tests import servers
from tests.chaos.proxy import Proxy
from tests.chaos.trial import for_a_while, under_load
from tests.process import ServiceProcess

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
MIB = 2**20


@dataclass
class Scene:
    """A service of two replicas, and the servers behind it."""

    name: str
    target: str
    services: list
    find_clients: object

    async def broken(self, fault, inject, limit_s, **options):
        """The outcome of a fault."""
        name = f"{self.name}-{fault.replace(' ', '-')}"
        return await under_load(fault, self.target, self.find_clients, inject, name=name, limit_s=limit_s, **options)


@contextlib.asynccontextmanager
async def services(folder, redis_url, environment=None, count=2):
    """Replicas of the service, and a target that means all of them."""
    async with contextlib.AsyncExitStack() as stack:
        started = []
        for number, port in enumerate(servers.free_ports(count)):
            settings = {"PBA_GRPC_PORT": str(port), "PBA_LOG_LEVEL": "warning", **(environment or {})}
            one = ServiceProcess(Path(folder) / str(number), redis_url=redis_url, environment=settings)
            stack.callback(one.__exit__)
            started.append(one)
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in started))
        yield started, "ipv4:" + ",".join(one.target for one in started)


def alone(server):
    """Finds the one server."""
    return lambda: [server.client]


async def killed_service(scene):
    """Kills a replica and starts it again."""
    scene.services[0].kill()
    await asyncio.to_thread(scene.services[0].start)


async def frozen_service(scene, seconds=6.0):
    """Stops a replica's process for a while."""
    process = scene.services[0].process
    await for_a_while(
        seconds, partial(process.send_signal, signal.SIGSTOP), partial(process.send_signal, signal.SIGCONT)
    )


async def killed_server(server, seconds=1.0):
    """Kills a Redis and starts it again."""
    server.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


@contextlib.asynccontextmanager
async def standalone(folder):
    """One Redis that syncs every write, behind a proxy."""
    with servers.short_folder() as place, contextlib.ExitStack() as stack:
        server = servers.RunningServer(place / "redis", *ALWAYS, port=servers.free_ports(1)[0])
        stack.callback(server.close)
        async with Proxy(server.port) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with services(folder, url, {"PBA_DURABILITY": "always"}) as (running, target):
                yield Scene("one", target, running, alone(server)), server, proxy


async def short(folder):
    """The short form: what is tried with every run of the tests."""
    async with standalone(folder) as (scene, server, proxy):
        yield await scene.broken("replica killed, started again", lambda: killed_service(scene), 20)
        yield await scene.broken("Redis killed, started again after 1 s", lambda: killed_server(server), 20)
        yield await scene.broken("connections to Redis cut for 3 s", lambda: for_a_while(3, proxy.cut, proxy.heal), 20)


async def one_server(folder):
    """Replicas, one Redis, and the network between them."""
    async with standalone(folder) as (scene, server, proxy):
        yield await scene.broken("replica killed, started again", lambda: killed_service(scene), 20)
        yield await scene.broken("replica frozen for 6 s", lambda: frozen_service(scene), 20)
        yield await scene.broken("Redis killed, started again after 1 s", lambda: killed_server(server), 20)
        yield await scene.broken("Redis frozen for 5 s", lambda: for_a_while(5, server.freeze, server.thaw), 20)
        yield await scene.broken("connections to Redis cut for 3 s", lambda: for_a_while(3, proxy.cut, proxy.heal), 20)
        yield await scene.broken(
            "connections to Redis silent for 5 s", lambda: for_a_while(5, proxy.silence, proxy.heal), 20
        )
        slow = partial(setattr, proxy, "delay_s", 0.3)
        yield await scene.broken("0.3 s more each way to Redis, for 5 s", lambda: for_a_while(5, slow, proxy.heal), 20)


@contextlib.contextmanager
def small_disk(size_mib):
    """A file system of so many MiB."""
    folder = Path(tempfile.mkdtemp(prefix="pba-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


async def full_disk(server, folder, seconds=4.0):
    """Fills a disk, and makes room again; a Redis that ended over it is started again, as its supervisor would."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(4_096))
            file.flush()
    await asyncio.sleep(seconds)
    ballast.unlink()
    if not server.alive:
        await asyncio.to_thread(server.start)


async def disks(folder):
    """A disk that is full, as each policy of syncing meets it."""
    if os.geteuid() != 0:
        print("LEFT OUT: a full disk, which needs root to mount a small one")
        return
    for name, settings in (("always", ALWAYS), ("everysec", EVERYSEC)):
        with small_disk(24) as place, contextlib.ExitStack() as stack:
            server = servers.RunningServer(place / "r", *settings, port=servers.free_ports(1)[0])
            stack.callback(server.close)
            environment = {"PBA_DURABILITY": name}
            async with services(Path(folder) / name, server.url, environment, count=1) as (running, target):
                scene = Scene(name, target, running, alone(server))
                inject = partial(full_disk, server, place)
                yield await scene.broken(f"disk of Redis full for 4 s, appendfsync {name}", inject, 20)


async def jumped(file, offset):
    """Sets the clock of a service off, and right again."""
    file.write_text(offset)
    await asyncio.sleep(4)
    file.write_text("+0")
    await asyncio.sleep(1)


async def clocks(folder):
    """The clock of one replica is an hour off, either way."""
    if not await asyncio.to_thread(FAKETIME.exists):
        print("LEFT OUT: clocks that jump, which need libfaketime")
        return
    with servers.short_folder() as place, contextlib.ExitStack() as stack:
        server = servers.RunningServer(place / "redis", *ALWAYS, port=servers.free_ports(1)[0])
        stack.callback(server.close)
        file = place / "offset"
        file.write_text("+0")
        environment = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        async with services(folder, server.url, environment, count=1) as (running, target):
            scene = Scene("clock", target, running, alone(server))
            for offset in ("+1h", "-1h"):
                inject = partial(jumped, file, offset)
                yield await scene.broken(f"clock of the service {offset} for 4 s", inject, 20)


async def sentinels(folder):
    """A primary, its replica, and three Sentinels."""
    with servers.sentinels() as group:
        async with services(folder, group.url) as (running, target):
            scene = Scene("sentinel", target, running, lambda: [group.primary.client])

            async def planned():
                await asyncio.to_thread(group.fail_over)

            async def crashed():
                first = group.primary
                first.kill()
                await asyncio.to_thread(servers.wait_until, lambda: group.primary is not first)
                await asyncio.to_thread(first.start)
                # Sentinels take their time over a primary that comes back: they look every ten seconds
                await asyncio.to_thread(servers.wait_until, lambda: following(first), 60.0)

            async def frozen():
                first = group.primary
                first.freeze()
                await asyncio.to_thread(servers.wait_until, lambda: group.primary is not first)
                await asyncio.sleep(2)
                first.thaw()

            yield await scene.broken("Sentinel: planned failover", planned, 20)
            await asyncio.to_thread(servers.wait_until, lambda: all(map(settled_role, group.servers)))
            yield await scene.broken("Sentinel: primary killed", crashed, 30)
            await asyncio.to_thread(servers.wait_until, lambda: all(map(settled_role, group.servers)))
            yield await scene.broken("Sentinel: primary frozen", frozen, 30)


def following(server):
    """Whether a server has become a replica that is up to date."""
    with contextlib.suppress(Exception):
        return server.client.info("replication").get("master_link_status") == "up"


def settled_role(server):
    """Whether a server is a primary with a replica, or a replica that is up to date."""
    with contextlib.suppress(Exception):
        told = server.client.info("replication")
        return told.get("master_link_status") == "up" or told.get("connected_slaves", 0) > 0


async def clusters(folder):
    """Three primaries with a replica each; what is acknowledged is on a replica as well."""
    with servers.cluster(replicated=True) as group:
        everyone = [*group.nodes, *group.replicas]

        def primaries():
            found = []
            for node in everyone:
                with contextlib.suppress(Exception):
                    if node.client.info("replication")["role"] == "master":
                        found.append(Redis(port=node.port, protocol=2))
            return found

        environment = {"PBA_DURABILITY": "replicated"}
        async with services(folder, group.url, environment) as (running, target):
            scene = Scene("cluster", target, running, primaries)

            async def moving():
                for number in range(6):
                    key = f"pba:{{cluster-Cluster:-slots-of-6-links-move-{number}}}:m"
                    await asyncio.to_thread(servers.move, group, key)
                    await asyncio.sleep(0.3)

            async def crashed():
                victim = group.nodes[1]
                before = {client.connection_pool.connection_kwargs["port"] for client in primaries()}
                victim.kill()
                await asyncio.to_thread(
                    servers.wait_until,
                    lambda: {c.connection_pool.connection_kwargs["port"] for c in primaries()} - before,
                )
                await asyncio.to_thread(victim.start)

            yield await scene.broken("Cluster: slots of 6 links move", moving, 20)
            yield await scene.broken("Cluster: primary killed, its replica takes over", crashed, 40)


SUITE = (one_server, disks, clocks, sentinels, clusters)
