"""Probes, replies and trains as bytes: RFC 8762's sizes, what a key keeps out, what an answer may weigh."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_client.agent import stamp, train

KEY = b"a key that both sides hold"
NOW = 1_795_000_000_123_456_789
KEYS = pytest.mark.parametrize("key", [None, KEY])


@KEYS
@given(sequence=st.integers(0, 2**32 - 1), session=st.integers(0, 65_535), sent=st.integers(0, 4_000_000_000 * 10**9))
def test_what_is_packed_is_read(key, sequence, session, sent):
    probe = stamp.parse_probe(stamp.pack_probe(stamp.Probe(sequence, sent, session), key), key)
    assert (probe.sequence, probe.session) == (sequence, session)
    assert abs(probe.sent_ns - sent) <= 1


def test_an_unauthenticated_probe_is_laid_out_as_the_rfc_says():
    packet = stamp.pack_probe(stamp.Probe(7, NOW, 0x1234), None)
    sequence, seconds, fraction, _, session = struct.unpack(">IIIHH28x", packet)
    assert len(packet) == 44
    assert (sequence, session) == (7, 0x1234)
    assert seconds == NOW // 10**9 + 2_208_988_800
    assert fraction / 2**32 == pytest.approx(0.123456789, abs=1e-8)


def test_an_authenticated_probe_is_laid_out_as_the_rfc_says():
    packet = stamp.pack_probe(stamp.Probe(7, NOW, 0x1234), KEY)
    assert len(packet) == 112
    assert packet[4:16] == bytes(12)
    assert packet[28:96] == bytes(68)
    assert packet[96:] == stamp.tag(KEY, packet[:96])


@KEYS
def test_a_reply_is_as_long_as_its_probe_and_repeats_it(key):
    probe = stamp.pack_probe(stamp.Probe(7, NOW, 9), key)
    packet = stamp.pack_reply(stamp.Reply(3, NOW + 5000, NOW + 9000, 7, 9), probe, 61, key)
    assert len(packet) == len(probe)
    reply = stamp.parse_reply(packet, key)
    assert (reply.sequence, reply.probe_sequence, reply.session) == (3, 7, 9)
    assert abs(reply.sent_ns - reply.received_ns - 4000) <= 1


def test_times_in_ptp_format_are_read():
    packet = bytearray(
        stamp.pack_reply(stamp.Reply(1, NOW, NOW, 1, 1), stamp.pack_probe(stamp.Probe(1, NOW, 1), None), 1, None)
    )
    packet[12] |= 0x40
    packet[4:12] = packet[16:24] = struct.pack(">II", 1000, 5)
    assert stamp.parse_reply(bytes(packet), None).sent_ns == 1000 * 10**9 + 5


@given(position=st.integers(0, 111), bit=st.integers(0, 7))
def test_a_changed_bit_is_noticed(position, bit):
    packet = bytearray(stamp.pack_probe(stamp.Probe(7, NOW, 9), KEY))
    packet[position] ^= 1 << bit
    assert stamp.parse_probe(bytes(packet), KEY) is None


@given(st.binary(max_size=200))
def test_noise_is_nothing(noise):
    for key in (None, KEY):
        if key or len(noise) != stamp.PLAIN_BYTES:
            assert stamp.parse_probe(noise, key) is None
            assert stamp.parse_reply(noise, key) is None
    assert train.parse(noise, KEY) is None
    assert train.parse_report(noise, KEY) is None


@KEYS
def test_a_reply_does_not_pass_for_a_probe(key):
    probe = stamp.pack_probe(stamp.Probe(7, NOW, 9), key)
    assert stamp.parse_probe(stamp.pack_reply(stamp.Reply(1, NOW, NOW, 7, 9), probe, 1, key), key) is None


def test_cars_and_questions_are_told_apart_and_signed():
    car = train.Car(train.Kind.CAR, 1, 2, 3, 4)
    question = train.Car(train.Kind.ASK, 1, 2, 0, 0)
    assert train.parse(train.pack(car, 1400, KEY), KEY) == car
    assert train.parse(train.pack(question, train.ASK_BYTES, KEY), KEY) == question
    assert train.parse(train.pack(car, 1400, b"another key, as long"), KEY) is None
    assert train.parse(train.pack(car, train.LEAST_CAR_BYTES - 1, KEY), KEY) is None


def test_a_report_is_no_longer_than_its_question():
    report = train.Report(1, 2, 40, 10_000_000, 20 * 1428)
    packet = train.pack_report(report, KEY)
    assert len(packet) <= train.ASK_BYTES
    assert train.parse_report(packet, KEY) == report
    assert train.parse_report(packet, b"another key, as long") is None
    assert report.rate_mbps == pytest.approx(20 * 1428 * 8 / 10_000)


def test_a_train_that_is_disturbed_at_its_ends_still_tells_the_rate():
    step = 114_240
    arrived = [i * step for i in range(40)]
    early_and_late = [arrived[0] - 3_000_000, *arrived[1:-1], arrived[-1] + 3_000_000]
    assert train.report(1, 1, arrived, 1428).rate_mbps == pytest.approx(100, rel=1e-3)
    assert train.report(1, 1, early_and_late, 1428).rate_mbps == pytest.approx(100, rel=1e-3)
    assert train.report(1, 1, [5], 1428).rate_mbps is None
    assert train.report(1, 1, [], 1428).rate_mbps is None
