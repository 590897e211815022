"""Buckets and places, with bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.access.limits import BURST_S, Places, Rate, peer_key


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_what_was_not_used_can_be_used_at_once_and_then_it_flows():
    clock = Clock()
    rate = Rate(10, clock)
    taken = sum(rate.take("a") == 0 for _ in range(100))
    assert taken == 10 * BURST_S
    wait_s = rate.take("a")
    assert 0 < wait_s <= 0.1
    clock.now += wait_s
    assert rate.take("a") == 0
    assert rate.take("a") > 0
    assert rate.take("b") == 0


def test_a_batch_larger_than_the_bucket_passes_and_is_paid_for_afterwards():
    clock = Clock()
    rate = Rate(100, clock)
    assert rate.take("a", 10_000) == 0
    wait_s = rate.take("a", 1)
    assert wait_s == pytest.approx((10_000 - 200) / 100, rel=0.01)
    clock.now += wait_s
    assert rate.take("a", 1) == 0


@given(steps=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 500)), min_size=1, max_size=80))
def test_never_more_than_the_rate_the_burst_and_one_batch(steps):
    clock = Clock()
    rate = Rate(100, clock)
    taken = 0
    for pause_s, cost in steps:
        clock.now += pause_s
        if rate.take("a", cost) == 0:
            taken += cost
    assert taken <= 100 * (clock.now + BURST_S) + 500


def test_the_memory_of_callers_is_bounded():
    rate = Rate(1, Clock(), max_callers=10)
    for number in range(10_000):
        rate.take(str(number))
    assert len(rate) == 10


def test_places_are_given_back():
    places = Places(2)
    assert [places.enter("a") for _ in range(3)] == [True, True, False]
    assert places.enter("b")
    places.leave("a")
    assert places.enter("a")
    for caller in ("a", "a", "b"):
        places.leave(caller)
    assert len(places) == 0


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:50000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:50000", "2001:db8:1:2::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("ipv6:nonsense", "ipv6"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_who_an_unknown_caller_is_taken_to_be(peer, key):
    assert peer_key(peer) == key
