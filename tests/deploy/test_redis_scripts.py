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
        except (TimeoutError, AssertionError) as error:
            error.add_note(pods.log()[-6000:])
            raise


def info(pods):
    return ask(pods.address(5), "CLUSTER", "INFO")
