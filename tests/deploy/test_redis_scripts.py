"""The scripts that start Redis in Kubernetes, run for real: they form what they say, and find back into it."""

from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError

from tests.deploy.pods import PASSWORD, PORT, Pods
from tests.servers import wait_until

PATIENCE_S = 90.0
SENTINEL_PORT = 26379


def ask(address, *command, port=PORT):
    """The answer; None while there is none."""
    with suppress(RedisError, OSError):
        client = Redis(host=address, port=port, password=PASSWORD, protocol=2, socket_timeout=3, decode_responses=True)
        with client:
            return client.execute_command(*command)
    return None


def role(address):
    return (ask(address, "ROLE") or [None])[0]


def test_sentinels_agree_and_a_primary_that_died_comes_back_as_a_replica(tmp_path):
    with Pods(tmp_path, "redis-sentinel", 77) as pods:
        servers = [pods.start(n, "redis.sh") for n in range(3)]
        for n in range(3):
            pods.start(n, "sentinel.sh")
        addresses = [pods.address(n) for n in range(3)]

        def primary(n=1):
            return (ask(addresses[n], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "pba", port=SENTINEL_PORT) or [""])[0]

        def all_known():
            told = ask(addresses[1], "SENTINEL", "MASTER", "pba", port=SENTINEL_PORT) or []
            seen = dict(zip(told[::2], told[1::2], strict=True))
            return (int(seen.get("num-slaves", 0)), int(seen.get("num-other-sentinels", 0))) == (2, 2)

        try:
            wait_until(lambda: primary() == "redis-0.redis", PATIENCE_S, "a primary")
            wait_until(lambda: [role(one) for one in addresses] == ["master", "slave", "slave"], PATIENCE_S, "replicas")
            wait_until(all_known, PATIENCE_S, "Sentinels that know each other and the replicas")
            wait_until(lambda: ask(addresses[0], "SET", "kept", "1"), PATIENCE_S, "a write with a replica behind it")
            assert ask(addresses[0], "WAIT", 2, 10_000) == 2

            servers[0].kill()
            wait_until(lambda: primary() not in {"", "redis-0.redis"}, PATIENCE_S, "another primary")
            pods.start(0, "redis.sh")  # it asks the Sentinels, and does not take itself for the primary
            wait_until(lambda: role(addresses[0]) == "slave", PATIENCE_S, "the old primary as a replica")
            assert ask(addresses[0], "GET", "kept") == "1"
            assert sorted(filter(None, map(role, addresses))) == ["master", "slave", "slave"]
        except (TimeoutError, AssertionError) as error:
            error.add_note(pods.log()[-6000:])
            raise


def test_after_the_end_of_all_pods_the_last_primary_is_the_primary(tmp_path):
    """A power cut: all servers come up before any Sentinel, and the first of them lacks the newest writes."""
    with Pods(tmp_path, "redis-sentinel", 79) as pods:
        running = [pods.start(n, script) for script in ("redis.sh", "sentinel.sh") for n in range(3)]
        addresses = [pods.address(n) for n in range(3)]

        def known(n):
            told = ask(addresses[n], "SENTINEL", "MASTER", "pba", port=SENTINEL_PORT) or []
            seen = dict(zip(told[::2], told[1::2], strict=True))
            return (seen.get("ip"), int(seen.get("num-slaves", 0)), int(seen.get("num-other-sentinels", 0)))

        def primary():
            return next((n for n in (1, 2) if known(2)[0] == f"redis-{n}.redis" and role(addresses[n]) == "master"), 0)

        try:
            wait_until(
                lambda: [known(n) for n in range(3)] == [("redis-0.redis", 2, 2)] * 3, PATIENCE_S, "agreeing Sentinels"
            )
            running[0].kill()
            wait_until(primary, PATIENCE_S, "another primary")
            newest = addresses[primary()]
            wait_until(lambda: ask(newest, "SET", "kept", "1"), PATIENCE_S, "a write that redis-0 does not have")
            assert ask(newest, "WAIT", 1, 10_000) == 1

            for process in running:
                process.kill()
            for n in range(3):
                pods.start(n, "redis.sh")
            wait_until(lambda: all(map(role, addresses)), PATIENCE_S, "servers")
            for n in range(3):
                pods.start(n, "sentinel.sh")
            wait_until(
                lambda: sorted(map(str, map(role, addresses))) == ["master", "slave", "slave"], PATIENCE_S, "roles"
            )
            wait_until(lambda: all(ask(one, "GET", "kept") == "1" for one in addresses), PATIENCE_S, "what was written")
        except (TimeoutError, AssertionError) as error:
            error.add_note(pods.log()[-6000:])
            raise


def test_six_servers_become_a_cluster_once(tmp_path):
    with Pods(tmp_path, "redis-cluster", 78) as pods:
        for n in range(6):
            pods.start(n, "redis.sh")
        try:
            wait_until(lambda: all(ask(pods.address(n), "PING") for n in range(6)), PATIENCE_S, "six servers")
            assert "All 16384 slots covered" in pods.run(0, "setup.sh")
            wait_until(lambda: "cluster_state:ok" in str(info(pods)), PATIENCE_S, "a cluster")
            assert pods.run(1, "setup.sh").strip() == "the cluster exists"
            nodes = ask(pods.address(0), "CLUSTER", "NODES")
            assert len(nodes if isinstance(nodes, dict) else nodes.splitlines()) == 6
            # clients are sent to names, since addresses change with the pods
            assert "redis-3.redis" in str(ask(pods.address(0), "CLUSTER", "SLOTS")) + str(nodes)
            assert ask(pods.address(0), "CONFIG", "GET", "maxmemory")[1] != "0"
        except (TimeoutError, AssertionError) as error:
            error.add_note(pods.log()[-6000:])
            raise


def test_a_cluster_whose_pods_all_got_other_addresses_finds_itself_again(tmp_path):
    with Pods(tmp_path, "redis-cluster", 80) as pods:
        running = [pods.start(n, "redis.sh") for n in range(6)]
        try:
            wait_until(lambda: all(ask(pods.address(n), "PING") for n in range(6)), PATIENCE_S, "six servers")
            pods.run(0, "setup.sh")
            wait_until(lambda: "cluster_state:ok" in str(info(pods)), PATIENCE_S, "a cluster")
            for process in running:
                process.kill()
            pods.move(81)
            for n in range(6):
                pods.start(n, "redis.sh")
            wait_until(lambda: all(reach_all(pods.address(n)) for n in range(6)), PATIENCE_S, "the cluster")
        except (TimeoutError, AssertionError) as error:
            error.add_note(pods.log()[-6000:])
            raise


def reach_all(address):
    """Whether a server has a connection to each of the other five, and all slots are served."""
    nodes = (ask(address, "CLUSTER", "NODES") or "").splitlines()
    there = [node for node in nodes if " connected" in node and "fail" not in node]
    return len(there) == 6 and "cluster_state:ok" in str(ask(address, "CLUSTER", "INFO"))


def info(pods):
    return ask(pods.address(5), "CLUSTER", "INFO")
