"""Delivery: in order, once, over a service that is away, slow, full, or says that samples are of the future."""

import random
from datetime import timedelta

import pytest

from pba_client import (
    Backoff,
    CapacityExceededError,
    NotPermittedError,
    PushResult,
    Refusal,
    RefusalReason,
    UnavailableError,
    ValueSource,
)
from pba_client.agent import AgentConfig, LinkConfig, Measurement, Origin
from pba_client.agent.clock import Clock
from pba_client.agent.courier import BATCH, Courier
from pba_client.agent.depot import Depot
from pba_client.agent.guide import Guide
from pba_client.agent.measurement import Source
from pba_client.errors import Details
from pba_client.resume import Retry
from tests.unit.agent.test_guide import said

LINK = LinkConfig("fra-ams", "192.0.2.7", peer="ams-1", region="eu")


class Service:
    """Stores what it is given, by link and time, as the service does; or fails as it is told."""

    def __init__(self, clock):
        self.clock, self.failing, self.stored, self.order, self.asked = clock, [], {}, [], 0
        self.refuses_ahead_ms = 120_000
        self.loses_answer = False

    def push(self, samples):
        if self.failing:
            raise self.failing[0]
        refusals, duplicates = [], 0
        for index, one in enumerate(samples):
            at_ms = round(one.measured_at.timestamp() * 1000)
            if at_ms > self.clock.true_s * 1000 + self.refuses_ahead_ms:
                refusals.append(Refusal(index, "measured_at", RefusalReason.IN_THE_FUTURE, "is of the future"))
            elif one.latency_ms is not None and one.latency_ms > 3.6e6:
                refusals.append(Refusal(index, "latency_ms", RefusalReason.OUT_OF_RANGE, "is too much"))
            else:
                duplicates += (one.link_id, at_ms) in self.stored
                self.stored[one.link_id, at_ms] = one
                self.order.append(at_ms)
        if self.loses_answer:
            self.loses_answer = False
            raise UnavailableError("cut off", code="UNAVAILABLE")
        stored = len(samples) - len(refusals) - duplicates
        return PushResult(stored, duplicates, 0, len(refusals), tuple(refusals))

    def parameters(self, link, guide):
        if self.failing:
            raise self.failing[0]
        self.asked += 1
        return said(adjust=False)


class Time:
    """Clocks that tests move; `error_s` is how wrong the node's wall clock is."""

    def __init__(self):
        self.true_s, self.boot_s, self.error_s = 1_769_860_800.0, 5_000.0, 0.0
        self.clock = Clock(lambda: self.true_s + self.error_s, lambda: self.boot_s, lambda: self.boot_s)

    def pass_s(self, seconds):
        self.true_s += seconds
        self.boot_s += seconds


class Node:
    def __init__(self, tmp_path, records=5000):
        self.time = Time()
        self.service = Service(self.time)
        config = AgentConfig((LINK,), tmp_path)
        self.decided = []
        self.depot = Depot(tmp_path / "r", records, self.time.clock)
        self.guide = Guide((LINK,), 60.0, self.decided.append, self.time.boot_s)
        chance = random.Random(1)  # noqa: S311 - no secret
        self.courier = Courier(
            config,
            self.depot,
            self.guide,
            service=self.service,
            clock=self.time.clock,
            retry=Retry(Backoff(initial_s=1.0, maximum_s=60.0), chance.uniform),
        )
        self.measured = []

    def measure(self, **values):
        at_ms = round((self.time.true_s + self.time.error_s) * 1000)
        one = Measurement("fra-ams", at_ms, **{"latency_ms": 8.5, **values})
        self.measured.append(at_ms)
        self.depot.add([one])
        self.guide.measured([one])
        self.courier.measured()

    def run(self, seconds):
        """Works as the thread does, for so long."""
        end = self.time.boot_s + seconds
        waits = []
        while (left := end - self.time.boot_s) > 0:
            wait = min(max(self.courier.work(), 0.001), left)
            waits.append(wait)
            self.time.pass_s(wait)
        return waits

    def minutes(self, count):
        for _ in range(count):
            self.measure()
            self.run(60)

    @property
    def history(self):
        return sorted(at for _, at in self.service.stored)


@pytest.fixture
def node(tmp_path):
    running = Node(tmp_path)
    yield running
    running.depot.close()


def unavailable(retry_after=None):
    return UnavailableError("away", code="UNAVAILABLE", details=Details(retry_after=retry_after))


def test_a_sample_arrives_with_its_own_time_and_what_is_said_of_the_link(node):
    node.minutes(1)
    (one,) = node.service.stored.values()
    assert (one.link_id, one.peer, one.region, one.latency_ms) == ("fra-ams", "ams-1", "eu", 8.5)
    assert node.history == node.measured
    assert node.service.asked == 1


def test_a_sample_says_how_each_of_its_values_was_obtained(node):
    node.measure(bandwidth_mbps=90.0, jitter_ms=0.2, sources=(Source.TRAIN, Source.TCP, Source.ABSENT, Source.PROBE))
    node.run(60)
    (one,) = node.service.stored.values()
    assert one.sources == (ValueSource.PACKET_TRAIN, ValueSource.TRANSPORT, ValueSource.UNSPECIFIED, ValueSource.PROBE)


def test_what_waited_arrives_in_order_and_once(node):
    node.service.failing = [unavailable()]
    node.minutes(90)
    assert node.depot.waiting == 90
    node.service.failing = []
    node.minutes(2)
    assert node.service.order == node.measured
    assert node.depot.waiting == 0
    assert not node.courier.away


def test_while_the_service_is_away_it_is_asked_less_and_less_and_never_in_step(tmp_path):
    tries = []
    for number in range(2):
        node = Node(tmp_path / str(number))
        node.courier._retry = Retry(Backoff(initial_s=1.0, maximum_s=60.0), random.Random(number).uniform)  # noqa: S311 - no secret
        node.service.failing = [unavailable()]
        node.measure()
        node.run(3600)
        tries.append(node.courier.counts.failures)
    assert tries[0] != tries[1]
    assert all(60 <= count <= 300 for count in tries)


def test_the_service_is_not_asked_before_it_wants_to_be(node):
    node.service.failing = [CapacityExceededError("full", details=Details(retry_after=timedelta(seconds=600)))]
    node.measure()
    node.run(599)
    assert node.courier.counts.failures == 1


def test_an_answer_that_is_lost_makes_no_second_sample(node):
    node.service.loses_answer = True
    node.minutes(3)
    assert node.history == node.measured
    assert node.courier.counts.duplicates == 1


def test_a_sample_that_the_service_refuses_for_good_is_counted_and_holds_up_nothing(node):
    node.measure()
    node.measure(latency_ms=4e6)
    node.time.pass_s(1)
    node.measure()
    node.run(120)
    assert node.depot.refused == 1
    assert len(node.history) == 2


def test_who_may_not_push_loses_nothing(node):
    node.service.failing = [NotPermittedError("no", code="PERMISSION_DENIED")]
    node.minutes(5)
    node.service.failing = []
    node.minutes(1)
    assert node.history == node.measured


def test_samples_of_a_clock_that_was_ahead_arrive_with_the_right_time(node):
    node.minutes(2)
    right = list(node.measured)
    node.time.error_s = 3600.0
    node.minutes(5)
    assert node.depot.waiting == 5
    node.time.error_s = 0.0
    node.run(180)
    assert node.depot.waiting == 0
    assert node.courier.counts.restamped == 5
    assert node.history == right + [at - 3_600_000 for at in node.measured[2:]]


def test_samples_of_a_clock_that_stays_ahead_wait_and_parameters_are_asked_for_all_the_same(node):
    node.time.error_s = 3600.0
    node.minutes(5)
    assert node.depot.waiting == 5
    assert node.service.asked == 5
    assert node.history == []


def test_a_backlog_comes_in_batches_with_pauses(node):
    node.service.failing = [unavailable()]
    for _ in range(3 * BATCH):
        node.measure()
        node.time.pass_s(1)
    node.service.failing = []
    node.courier._not_before_s = 0
    waits = node.run(30)
    assert node.history == node.measured
    assert sum(0.05 <= wait <= 0.3 for wait in waits) >= 2


def test_local_rules_take_over_while_the_service_is_away_and_end_with_it(node):
    node.minutes(3)
    node.service.failing = [unavailable()]
    node.minutes(10)
    node.service.failing = []
    node.minutes(3)
    assert [one.origin for one in node.decided] == [Origin.SERVICE, Origin.LOCAL, Origin.SERVICE]


def test_records_that_cannot_be_read_hold_up_nothing(node, tmp_path):
    node.service.failing = [unavailable()]
    node.minutes(2)
    with (tmp_path / "r").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 1000)
    node.service.failing = []
    node.run(120)
    node.minutes(1)
    assert node.history == node.measured[2:]
    assert node.depot.dropped == 2
