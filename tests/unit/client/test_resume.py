"""When a stream is tried again, and what a subscription remembers."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from pba.v1 import prediction_service_pb2 as pb

from pba_client import Backoff
from pba_client.errors import Details, UnavailableError
from pba_client.resume import Retry, Subscription

T0 = datetime(2025, 6, 15, 14, 0, tzinfo=UTC)


def away(retry_after=None):
    return UnavailableError("away", code="UNAVAILABLE", details=Details(retry_after=retry_after))


class Clock:
    def __init__(self):
        self.now = T0

    def __call__(self):
        return self.now

    def pass_s(self, seconds):
        self.now += timedelta(seconds=seconds)


@given(st.floats(0, 1), st.integers(0, 200))
def test_waits_are_random_below_a_growing_bound(fortune, attempts):
    retry = Retry(Backoff(initial_s=0.5, maximum_s=8), lambda low, high: low + fortune * (high - low))
    waits = [retry.delay_s(away()) for _ in range(attempts)]
    assert waits == [fortune * min(8.0, 0.5 * 2 ** min(i, 10)) for i in range(attempts)]


def test_success_starts_over():
    retry = Retry(Backoff(initial_s=1, maximum_s=8), lambda _, high: high)
    assert [retry.delay_s(away()) for _ in range(3)] == [1, 2, 4]
    retry.succeeded()
    assert retry.delay_s(None) == 1


def test_never_sooner_than_the_service_asked_for():
    retry = Retry(Backoff(initial_s=1, maximum_s=8), lambda low, _: low)
    assert retry.delay_s(away(timedelta(seconds=30))) == 30


def test_two_clients_do_not_come_back_together():
    one, other = Retry(Backoff()), Retry(Backoff())
    assert [one.delay_s(None) for _ in range(5)] != [other.delay_s(None) for _ in range(5)]


def message(skipped=0):
    return pb.StreamPredictionsResponse(skipped_updates=skipped, snapshot_complete=True)


def test_a_gap_is_told_once_with_its_length_and_first_knowledge():
    clock = Clock()
    subscription = Subscription(clock)
    assert subscription.update(message()).gap is None
    clock.pass_s(10)
    subscription.lost(away())
    clock.pass_s(3)
    subscription.lost(None)
    clock.pass_s(2)
    gap = subscription.update(message()).gap
    assert (gap.since, gap.until, gap.attempts) == (T0 + timedelta(seconds=10), T0 + timedelta(seconds=15), 2)
    assert isinstance(gap.cause, UnavailableError)
    assert subscription.update(message()).gap is None


def test_what_never_began_was_not_cut_off():
    subscription = Subscription(Clock())
    subscription.lost(away())
    assert subscription.update(message()).gap is None


def test_skipped_updates_are_counted_over_all_connections():
    subscription = Subscription(Clock())
    assert [subscription.update(message(n)).skipped_updates for n in (0, 2, 5)] == [0, 2, 5]
    subscription.lost(away())
    subscription.lost(away())
    assert [subscription.update(message(n)).skipped_updates for n in (0, 4)] == [5, 9]
