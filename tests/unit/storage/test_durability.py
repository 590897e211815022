"""What servers say of themselves, compared with what is wanted of them."""

import pytest

from pba_service.storage.durability import Durability, Facts, facts, judge

ALWAYS = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "noeviction"}
INFO = {"valkey_version": "9.1.2", "redis_version": "7.2.4", "aof_enabled": "1", "aof_last_write_status": "ok"}


def one(config=None, info=None):
    return facts("r", ALWAYS | (config or {}), INFO | (info or {}))


def test_a_server_is_read():
    info = {"slave0": "ip=1,state=online,lag=0", "slave1": "ip=2,state=wait_bgsave", "slave_expires": "0"}
    assert one(info=info) == Facts(
        name="r", version=(9, 1, 2), append_only=True, sync="always", evicts=False, replicas=1, disk_error=False
    )


@pytest.mark.parametrize(
    ("config", "given"),
    [
        ({}, Durability.ALWAYS),
        ({"appendfsync": "everysec"}, Durability.EVERYSEC),
        ({"appendfsync": "no"}, Durability.MEMORY),
        ({"appendonly": "no"}, Durability.MEMORY),
    ],
)
def test_what_a_server_gives(config, given):
    assert judge(Durability.AUTO, 1, [one(config)]).given is given
    assert judge(Durability.AUTO, 1, [one(), one(config)]).given is given  # of several the worst


@pytest.mark.parametrize(
    ("wanted", "config", "fulfilled"),
    [
        (Durability.AUTO, {"appendonly": "no"}, True),
        (Durability.MEMORY, {"appendonly": "no"}, True),
        (Durability.EVERYSEC, {}, True),
        (Durability.EVERYSEC, {"appendfsync": "everysec"}, True),
        (Durability.EVERYSEC, {"appendfsync": "no"}, False),
        (Durability.EVERYSEC, {"appendonly": "no"}, False),
        (Durability.ALWAYS, {}, True),
        (Durability.ALWAYS, {"appendfsync": "everysec"}, False),
        (Durability.MEMORY, {"maxmemory": "100", "maxmemory-policy": "allkeys-lru"}, False),
        (Durability.ALWAYS, {"maxmemory": "100", "maxmemory-policy": "volatile-ttl"}, False),
        (Durability.ALWAYS, {"maxmemory": "100"}, True),
        (Durability.ALWAYS, {"maxmemory": "0", "maxmemory-policy": "allkeys-lru"}, True),
    ],
)
def test_what_is_wanted_is_there_or_said_to_be_missing(wanted, config, fulfilled):
    verdict = judge(wanted, 1, [one(), one(config)])
    assert (not verdict.unmet) is fulfilled
    assert not verdict.unknown


def test_replicas_are_counted():
    with_two = one(info={"slave0": "state=online", "slave1": "state=online"})
    assert not judge(Durability.REPLICATED, 2, [with_two]).unmet
    [reason] = judge(Durability.REPLICATED, 3, [with_two]).unmet
    assert "2 of the 3" in reason


def test_waiting_for_disks_needs_a_server_that_can():
    old = {"valkey_version": "", "redis_version": "7.0.15", "slave0": "state=online"}
    [reason] = judge(Durability.REPLICATED_ALWAYS, 1, [one(info=old)]).unmet
    assert "7.2" in reason
    assert not judge(Durability.REPLICATED, 1, [one(info=old)]).unmet


def test_what_a_server_does_not_say_is_not_taken_for_good_or_bad():
    silent = facts("r", None, INFO)
    verdict = judge(Durability.ALWAYS, 1, [silent])
    assert not verdict.unmet
    assert len(verdict.unknown) == 2  # when it syncs, and whether it evicts
    assert len(judge(Durability.REPLICATED_ALWAYS, 1, [facts("r", ALWAYS, {})]).unknown) == 2  # of replicas and disks
    off = facts("r", None, INFO | {"aof_enabled": "0", "maxmemory": "0", "maxmemory_policy": "noeviction"})
    assert judge(Durability.ALWAYS, 1, [off]).unmet
    assert not judge(Durability.ALWAYS, 1, [off]).unknown
