"""Real Valkey or Redis servers for tests: alone on a unix socket, behind Sentinels, and as a Cluster.

Every server dies with the process that started it, and holds nothing when it begins.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

from redis import Redis

from pba_service.storage.binary import find_server
from pba_service.storage.process import GuardedProcess

START_TIMEOUT_S = 15.0

BINARY = os.environ.get("TEST_REDIS_SERVER")
"""The server to test with, for trying another version; by default the one that the service embeds."""

SERVICE = "primary"
"""The name by which the Sentinels of `sentinels` know their primary."""

_SLOTS = 16_384
_PORTS = range(10_000, 22_000)
"""Below those that the system gives to whoever connects, and so takes between looking and listening; a Cluster's nodes
talk 10,000 ports above."""


def wait_until(condition, timeout_s=START_TIMEOUT_S, what="the condition"):
    """Returns the first true answer of a function that is asked again and again."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(0.01)
    return answer


class RunningServer:
    """One server process.

    Attributes:
        url: Where it is, as `PBA_REDIS_URL` says it.
        client: A synchronous redis-py client for looking inside.
    """

    def __init__(self, folder, *args, port=0):
        self.folder, self.port = Path(folder), port
        self.folder.mkdir(parents=True, exist_ok=True)
        if port:
            where = ["--port", str(port), "--bind", "127.0.0.1"]
            self.url = f"redis://127.0.0.1:{port}"
            self.client = Redis(port=port, protocol=2, socket_timeout=5)
        else:
            path = self.folder / "s.sock"
            where = ["--port", "0", "--unixsocket", str(path)]
            self.url = f"unix://{path}"
            self.client = Redis(unix_socket_path=str(path), protocol=2, socket_timeout=5)
        self._command = [str(BINARY or find_server()), *args, *where, "--dir", str(self.folder), "--save", ""]
        self.start()

    def start(self):
        """Starts it, again after `kill`, and waits until it answers."""
        log = self.folder / "log"
        self.process = GuardedProcess(self._command, log=log)
        try:
            wait_until(self._answers)
        except BaseException as error:
            error.add_note(log.read_text())
            self.process.kill()
            raise

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError("the server has ended")
        with contextlib.suppress(Exception):
            return self.client.ping()

    @property
    def alive(self):
        """Whether it runs."""
        return self.process.poll() is None

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()

    def freeze(self):
        """Makes it hang: connections are still taken, nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        """Lets it go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self):
        """Ends it for good."""
        self.client.close()
        self.process.kill()


@contextlib.contextmanager
def short_folder():
    """A folder whose path leaves room for the name of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="pba-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def standalone(*args):
    """One server on a unix socket; it forgets everything when it ends, unless `args` make it persistent."""
    with short_folder() as folder, contextlib.ExitStack() as stack:
        yield _started(stack, folder, *args)


def free_ports(count):
    """Ports of the loopback that nobody listens on."""
    ports = []
    while len(ports) < count:
        port = secrets.choice(_PORTS)  # whoever seeds other numbers, two test processes draw different ones
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


class SentinelGroup:
    """A primary, its replica, and three Sentinels that watch them.

    Attributes:
        url: Where they are, as `PBA_REDIS_URL` says it.
        servers: The primary that was one at first, and its replica.
    """

    def __init__(self, servers, watchers):
        self.servers, self.watchers = servers, watchers
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def primary(self):
        """The server that the Sentinels name."""
        host_and_port = self.watchers[0].client.sentinel_get_master_addr_by_name(SERVICE)
        return next(server for server in self.servers if server.port == host_and_port[1])

    def fail_over(self):
        """Makes the replica the primary, as for maintenance; returns when the Sentinels name it."""
        before = self.primary
        wait_until(lambda: _accepted(self.watchers[0].client, "SENTINEL", "FAILOVER", SERVICE))
        wait_until(lambda: self.primary is not before, what="the failover")


@contextlib.contextmanager
def sentinels():
    """A `SentinelGroup` whose Sentinels know each other and the replica."""
    with short_folder() as folder, contextlib.ExitStack() as stack:
        primary_port, replica_port, *ports = free_ports(5)
        soon = ("--repl-diskless-sync-delay", "0")
        primary = _started(stack, folder / "primary", *soon, port=primary_port)
        follow = ("--replicaof", "127.0.0.1", str(primary_port))
        replica = _started(stack, folder / "replica", *soon, *follow, port=replica_port)
        wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up", what="replication")
        watchers = []
        for port in ports:
            config = folder / str(port) / "sentinel.conf"
            config.parent.mkdir()
            config.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary_port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\n"
                f"sentinel failover-timeout {SERVICE} 2000\n"
            )
            watchers.append(_started(stack, config.parent, str(config), "--sentinel", port=port))
        for watcher in watchers:
            wait_until(lambda watcher=watcher: _knows_all(watcher.client), what="the Sentinels' acquaintance")
        yield SentinelGroup([primary, replica], watchers)


class ClusterGroup:
    """Three primaries that share the slots, and perhaps a replica of each.

    Attributes:
        url: Where they are, as `PBA_REDIS_URL` says it.
        nodes: The primaries at first.
        replicas: The replica of each, if there are any.
    """

    def __init__(self, nodes, replicas=()):
        self.nodes, self.replicas = nodes, list(replicas)
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)

    def flush(self):
        """Empties all nodes."""
        for node in self.nodes:
            node.client.flushall()


@contextlib.contextmanager
def cluster(*args, replicated=False):
    """A `ClusterGroup` that is complete; each primary has a replica if it shall be replicated."""
    with short_folder() as folder, contextlib.ExitStack() as stack:
        soon = ("--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
        settings = ("--cluster-enabled", "yes", *soon, *args)
        ports = free_ports(6 if replicated else 3)
        everyone = [_started(stack, folder / str(port), *settings, port=port) for port in ports]
        nodes, replicas = everyone[:3], everyone[3:]
        for i, node in enumerate(nodes):
            share = range(i * _SLOTS // len(nodes), (i + 1) * _SLOTS // len(nodes))
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            node.client.execute_command("CLUSTER", "ADDSLOTS", *share)
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        for replica in replicas:
            replica.client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        for node in everyone:
            wait_until(lambda node=node: _complete(node.client, len(everyone)), what="the Cluster")
        for node, replica in zip(nodes, replicas, strict=False):
            replica.client.execute_command("CLUSTER", "REPLICATE", node.client.execute_command("CLUSTER", "MYID"))
        for replica in replicas:
            wait_until(
                lambda replica=replica: replica.client.info("replication").get("master_link_status") == "up",
                what="replication",
            )
        yield ClusterGroup(nodes, replicas)


@contextlib.contextmanager
def joined(group):
    """One more node of a Cluster, which holds no slot yet."""
    with short_folder() as folder, contextlib.ExitStack() as stack:
        settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        node = _started(stack, folder / "joined", *settings, port=free_ports(1)[0])
        node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", group.nodes[0].port)
        everyone = [*group.nodes, *group.replicas, node]
        for one in everyone:
            wait_until(lambda one=one: _complete(one.client, len(everyone)), what="the Cluster")
        yield node


def slot_and_owner(group, key):
    slot = group.nodes[0].client.execute_command("CLUSTER", "KEYSLOT", key)
    for node in group.nodes:
        with contextlib.suppress(Exception):
            node.client.exists(key)
            return slot, node
    raise AssertionError


class Move:
    """The slot of a key on its way to another node, by default the next.

    Its keys stay where they are until they are carried.
    """

    def __init__(self, group, key, target=None):
        self._nodes = group.nodes
        self._slot, self.source = slot_and_owner(group, key)
        self.target = target or group.nodes[(group.nodes.index(self.source) + 1) % len(group.nodes)]
        self._ids = {node: self._ask(node, "MYID").decode() for node in {*group.nodes, self.target}}
        self._ask(self.target, "SETSLOT", self._slot, "IMPORTING", self._ids[self.source])
        self._ask(self.source, "SETSLOT", self._slot, "MIGRATING", self._ids[self.target])

    def _ask(self, node, *command):
        return node.client.execute_command("CLUSTER", *command)

    def carry(self, *keys):
        """Moves some of its keys; by default all."""
        keys = keys or self._ask(self.source, "GETKEYSINSLOT", self._slot, 1_000)
        self.source.client.execute_command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5_000, "KEYS", *keys)

    def end(self):
        """Moves what is left, and gives the slot to the node."""
        self.carry()
        for node in (self.target, self.source, *self._nodes):
            self._ask(node, "SETSLOT", self._slot, "NODE", self._ids[self.target])


def move(group, key):
    """Gives the slot of a key, with all its keys, to the next node."""
    moving = Move(group, key)
    moving.end()
    return moving.source, moving.target


def _started(stack, folder, *args, port=0):
    server = RunningServer(folder, *args, port=port)
    stack.callback(server.close)
    return server


def _accepted(client, *command):
    with contextlib.suppress(Exception):
        return client.execute_command(*command)


def _knows_all(watcher):
    state = watcher.sentinel_master(SERVICE)
    return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2


def _complete(node, count):
    info = node.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
    return text["cluster_state"] == "ok" and int(text["cluster_known_nodes"]) == count
