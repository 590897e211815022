"""Which parameters are in force, when they change, and what happens when nobody renews them."""

from datetime import UTC, datetime, timedelta

import pytest

from pba_client import ParameterReason, Parameters, ParametersSource
from pba_client.agent import LinkConfig, Measurement, Origin
from pba_client.agent.guide import Guide
from pba_client.agent.local import local_parameters
from pba_client.agent.tally import share

WALL = datetime(2026, 1, 31, 12, tzinfo=UTC)
LINK = LinkConfig("fra-ams", "192.0.2.7")


def said(*, adjust=True, streams=4, pace=None, valid_s=120, apply_s=0, reasons=()):
    return Parameters(
        streams, 65_536, 16_384, pace, ParametersSource.PREDICTION, tuple(reasons), "why", adjust,
        WALL + timedelta(seconds=valid_s), None, 65_536, apply_at=WALL + timedelta(seconds=apply_s),
    )  # fmt: skip


class Node:
    """A guide, and a node that does as it is told."""

    def __init__(self, links=(LINK,), *, fails=False):
        self.told, self.fails = [], fails
        self.guide = Guide(links, 60.0, self.on_parameters, 0.0)

    def on_parameters(self, decision):
        self.told.append(decision)
        if self.fails:
            raise RuntimeError("the transport does not like it")

    def hear(self, answer, now_s):
        self.guide.pass_time(now_s)
        self.guide.advised("fra-ams", answer, WALL, now_s)

    @property
    def streams(self):
        return [one.streams for one in self.told]

    @property
    def origins(self):
        return [one.origin for one in self.told]


def test_what_the_service_first_says_is_in_force_at_once():
    node = Node()
    node.hear(said(adjust=False, apply_s=600), 1.0)
    assert node.streams == [4]
    assert node.guide.in_force("fra-ams").origin is Origin.SERVICE


def test_nothing_changes_that_is_not_worth_it():
    node = Node()
    node.hear(said(), 0.0)
    for minute in range(1, 10):
        node.hear(said(adjust=False, streams=5), 60.0 * minute)
    assert node.streams == [4]


def test_a_pace_where_there_is_none_is_taken_for_it_costs_nothing():
    node = Node()
    node.hear(said(), 0.0)
    node.hear(said(adjust=False, pace=95.0), 60.0)
    node.hear(said(adjust=False, pace=96.0), 120.0)
    assert [one.pacing_mbps for one in node.told] == [None, 95.0]


def test_a_change_comes_when_it_is_due():
    node = Node()
    node.hear(said(), 0.0)
    node.hear(said(streams=9, apply_s=90, valid_s=900), 60.0)
    node.guide.pass_time(149.0)
    assert node.streams == [4]
    assert node.guide.next_s() == 150.0
    node.guide.pass_time(150.0)
    assert node.streams == [4, 9]


def test_a_change_that_is_called_off_does_not_come():
    node = Node()
    node.hear(said(), 0.0)
    node.hear(said(streams=9, apply_s=90, valid_s=900), 60.0)
    node.hear(said(adjust=False, valid_s=900), 120.0)
    node.guide.pass_time(200.0)
    assert node.streams == [4]


def test_parameters_lapse_and_no_pace_outlives_its_evidence():
    node = Node()
    node.guide.measured([Measurement("fra-ams", 1, 100.0, 20.0, 0.0)] * 10)
    node.hear(said(pace=95.0), 0.0)
    node.guide.pass_time(119.0)
    assert node.told[-1].pacing_mbps == 95.0
    node.guide.pass_time(120.0)
    assert node.origins == [Origin.SERVICE, Origin.LOCAL]
    assert node.told[-1].pacing_mbps is None
    assert node.guide.alone == ["fra-ams"]


def test_the_service_takes_over_again():
    node = Node()
    node.hear(said(), 0.0)
    node.guide.pass_time(500.0)
    node.hear(said(adjust=False, streams=6, apply_s=900), 510.0)
    assert node.origins == [Origin.SERVICE, Origin.LOCAL, Origin.SERVICE]
    assert node.guide.alone == []


def test_a_node_that_never_heard_the_service_helps_itself():
    node = Node()
    node.guide.pass_time(119.0)
    assert not node.told
    node.guide.pass_time(120.0)
    assert node.origins == [Origin.LOCAL]


def test_local_rules_change_only_for_much():
    node = Node()
    node.guide.measured([Measurement("fra-ams", 1, 100.0, 80.0, 0.01, loss=share(100, 10_000))] * 10)
    node.guide.pass_time(120.0)
    (first,) = node.streams
    node.guide.measured([Measurement("fra-ams", 1, 110.0, 80.0, 0.01, loss=share(100, 10_000))] * 10)
    node.guide.pass_time(180.0)
    assert node.streams == [first]
    node.guide.measured([Measurement("fra-ams", 1, 400.0, 80.0, 0.01, loss=share(100, 10_000))] * 10)
    node.guide.pass_time(240.0)
    assert node.streams[-1] > 2 * first


def test_a_service_without_its_store_is_no_answer():
    node = Node()
    node.hear(said(), 0.0)
    node.hear(said(streams=8, reasons=[ParameterReason.STORE_UNAVAILABLE]), 60.0)
    assert node.streams == [4]
    node.guide.pass_time(130.0)
    assert node.origins[-1] is Origin.LOCAL


@pytest.mark.parametrize("valid_s", [-86_400, 30_000_000])
def test_a_wrong_clock_makes_nothing_lapse_at_once_or_never(valid_s):
    node = Node()
    node.hear(said(valid_s=valid_s), 0.0)
    node.guide.pass_time(59.0)
    assert node.origins == [Origin.SERVICE]
    node.guide.pass_time(3700.0)
    assert node.origins[-1] is Origin.LOCAL


def test_a_callback_that_fails_is_counted_and_stops_nothing():
    node = Node(fails=True)
    node.hear(said(), 0.0)
    node.hear(said(streams=9), 60.0)
    assert node.streams == [4, 9]
    assert node.guide.callback_failures == 2


def test_local_rules_need_a_measurement():
    for known in (None, None), (940.0, None), (None, 20.0):
        rules = local_parameters([Measurement("a", 1, *known)] * 10, LINK)
        assert (rules.streams, rules.buffer_bytes) == (8, 256 * 1024)
    assert local_parameters([], LINK).streams == 8


def test_local_rules_open_more_streams_for_more_loss_and_delay():
    def streams(latency_ms, loss):
        one = Measurement("a", 1, 50.0, latency_ms, loss, loss=share(loss * 100_000, 100_000))
        return local_parameters([one] * 10, LINK).streams

    assert streams(80, 0.01) > streams(80, 0.001) > streams(20, 0.0) >= 2
    assert streams(80, 0.01) > streams(20, 0.01)


def test_local_rules_reckon_with_loss_that_few_probes_cannot_see():
    few, many = (Measurement("a", 1, 50.0, 80.0, 0.0, loss=share(0, n)) for n in (60, 100_000))
    assert local_parameters([few] * 10, LINK).streams > local_parameters([many] * 10, LINK).streams


def test_local_rules_keep_to_what_the_node_can_do():
    link = LinkConfig("a", "192.0.2.7", max_streams=3, max_buffer_bytes=70_000)
    rules = local_parameters([Measurement("a", 1, 1000.0, 200.0, 0.02)] * 10, link)
    assert (rules.streams, rules.buffer_bytes) == (3, 70_000)


def test_an_answer_outlives_one_question_that_fails_also_at_long_intervals():
    told = []
    guide = Guide([LINK], 3600.0, told.append, 0.0)
    guide.advised("fra-ams", said(), WALL, 1.0)
    guide.pass_time(3700.0)
    assert [one.origin for one in told] == [Origin.SERVICE]
    guide.pass_time(7300.0)
    assert [one.origin for one in told] == [Origin.SERVICE, Origin.LOCAL]


def test_the_streams_that_there_can_be_share_the_whole_buffer():
    measured = [Measurement("a", 1, 100.0, 40.0, 0.001)] * 10  # a bandwidth-delay product of 500 kB
    rules = local_parameters(measured, LinkConfig("a", "192.0.2.7", max_streams=2))
    assert (rules.streams, rules.buffer_bytes) == (2, 500_000 + 32 * 1024)
