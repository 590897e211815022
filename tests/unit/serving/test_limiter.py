"""The limit of calls under way, in a model of a server whose calls wait for each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.serving.limiter import Limiter, LimitOptions

OPTIONS = LimitOptions(target_s=0.05, window_s=0.1, least=4, most=200, first=32)


class Seconds:
    now_s = 10.0

    def __call__(self):
        return self.now_s


def overloaded(limiter, clock, *, service_s, seconds):
    """Offers more than can be done: one call at a time is worked on, the others wait. Returns latencies at the end."""
    begun, latencies = [], []
    until = clock.now_s + seconds
    while clock.now_s < until:
        while limiter.enter():
            begun.append(clock.now_s)
        clock.now_s += service_s
        took = clock.now_s - begun.pop(0)
        latencies.append(took)
        limiter.leave(took)
    return latencies[len(latencies) // 2 :]


@pytest.mark.parametrize("service_s", [0.0005, 0.002, 0.005])
def test_whatever_is_offered_those_let_in_keep_the_target(service_s):
    clock = Seconds()
    limiter = Limiter(OPTIONS, clock)
    latencies = sorted(overloaded(limiter, clock, service_s=service_s, seconds=20))
    assert latencies[int(0.9 * len(latencies))] <= 1.25 * OPTIONS.target_s
    # and the server is not idle: about as much is let in as fits into the target
    assert limiter.limit >= 0.5 * OPTIONS.target_s / service_s


def test_it_rises_only_when_it_is_reached():
    clock = Seconds()
    limiter = Limiter(OPTIONS, clock)
    for _ in range(1_000):
        assert limiter.enter()
        clock.now_s += 0.01
        limiter.leave(0.001)
    assert limiter.limit == OPTIONS.first


def test_slow_work_gets_the_time_that_it_takes():
    clock = Seconds()
    limiter = Limiter(OPTIONS, clock)
    for _ in range(100):
        assert limiter.enter()
        clock.now_s += 0.5
        limiter.leave(0.5)
    assert limiter.limit == OPTIONS.first


def test_a_server_that_became_slow_lets_in_less_and_comes_back():
    clock = Seconds()
    limiter = Limiter(OPTIONS, clock)
    overloaded(limiter, clock, service_s=0.0005, seconds=10)
    fast = limiter.limit
    for _ in range(limiter.under_way):
        limiter.leave(None)
    overloaded(limiter, clock, service_s=0.01, seconds=10)
    assert limiter.limit < fast / 3
    for _ in range(limiter.under_way):
        limiter.leave(None)
    overloaded(limiter, clock, service_s=0.0005, seconds=20)
    assert limiter.limit > fast / 2


def test_a_method_that_became_slower_for_good_gets_another_target():
    clock = Seconds()
    limiter = Limiter(OPTIONS, clock)
    overloaded(limiter, clock, service_s=0.0005, seconds=1)

    def slow(calls):
        for _ in range(calls):
            while limiter.enter():
                pass
            clock.now_s += 0.5
            for _ in range(limiter.under_way):
                limiter.leave(0.5)
        return limiter.limit

    assert slow(100) == OPTIONS.least
    assert slow(10_000) == OPTIONS.most


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.floats(0, 0.3)), max_size=300))
def test_the_limit_stays_within_its_bounds_and_the_count_is_right(events):
    clock = Seconds()
    limiter = Limiter(OPTIONS, clock)
    under_way = 0
    for enters, took_s, pause_s in events:
        clock.now_s += pause_s
        if enters:
            under_way += limiter.enter()
        elif under_way:
            under_way -= 1
            limiter.leave(took_s)
        assert limiter.under_way == under_way
        assert OPTIONS.least <= limiter.limit <= OPTIONS.most
