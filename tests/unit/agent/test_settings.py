"""What an agent is told, its bounds, its schedule and its trains' arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_client import BandwidthKind, CongestionControl
from pba_client.agent import ConfigError, LinkConfig, ReflectorConfig, load_config
from pba_client.agent.bandwidth import available_mbps
from pba_client.agent.budget import HourBudget, TokenBucket
from pba_client.agent.config_file import seconds, size_bytes
from pba_client.agent.interface import carried_bytes
from pba_client.agent.schedule import Schedule, phase_s

WHOLE = """
node: fra-1
interval: 30s
poll: 500ms
probes_per_s: 50
state_dir: state
key_file: key
buffer_samples: 1000
interface: eth1
metrics_file: /run/pba.prom
parameters_dir: /run/pba
command: [/usr/bin/apply, --now]
service:
  target: dns:///pba:50051
  token_file: token
  tls: true
links:
  - link: fra-ams
    address: 192.0.2.7
    peer: ams-1
    region: eu
    ports: [5000, 5001]
    bandwidth_kind: goodput
    congestion_control: bbr
    max_streams: 64
    max_buffer: 4MiB
    probe: {port: 862, rate: 5, busy_rate: 0, timeout: 1s}
    train: {bytes_per_hour: 10MB, packet_bytes: 1200, most_packets: 100, duration: 20ms}
  - {link: fra-lon, address: "2001:db8::7", key_file: other}
respond:
  host: 192.0.2.1
  allow: [192.0.2.0/24]
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "key").write_text("a key that both sides hold\n")
    (tmp_path / "other").write_text("another key, as long as it\n")
    (tmp_path / "token").write_text("secret\n")

    def to_file(text):
        (tmp_path / "agent.yaml").write_text(text)
        return tmp_path / "agent.yaml"

    return to_file


def test_everything_that_can_be_said_is_understood(write, tmp_path):
    config = load_config(write(WHOLE))
    first, second = config.links
    assert (config.node, config.interval_s, config.poll_s, config.target) == ("fra-1", 30, 0.5, "dns:///pba:50051")
    assert config.probes_per_s == 50
    assert config.state_dir == tmp_path / "state"
    assert config.command == ("/usr/bin/apply", "--now")
    assert config.options.tls is not None
    assert config.options.token_file == tmp_path / "token"
    assert first.key == b"a key that both sides hold"
    assert first.ports == {5000, 5001}
    assert (first.bandwidth_kind, first.congestion_control) == (BandwidthKind.GOODPUT, CongestionControl.BBR)
    assert (first.max_streams, first.max_buffer_bytes) == (64, 4 << 20)
    assert (first.probe.port, first.probe.rate_hz, first.probe.busy_rate_hz) == (862, 5, 0)
    assert (first.train.bytes_per_hour, first.train.most_packets) == (10_000_000, 100)
    assert second.key == b"another key, as long as it"
    assert (config.respond.host, config.respond.allow) == ("192.0.2.1", ("192.0.2.0/24",))
    assert b"secret" not in repr(config).encode()
    assert "a key" not in repr(config)


def test_all_faults_are_told_at_once(write):
    text = WHOLE.replace("interval: 30s", "interval: often").replace("    region: eu", "    regoin: eu")
    text = text.replace("192.0.2.7", "ams.example").replace("key_file: other", "key_file: lost")
    with pytest.raises(ConfigError) as caught:
        load_config(write(text))
    told = str(caught.value)
    for part in ("interval: cannot be 'often'", "links[0].regoin", "ams.example", "links[1].key_file"):
        assert part in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "links: 5",
        "links: []",
        "a: {",
        "links: [5]",
        "service: no\nlinks: []",
        WHOLE.replace("node: fra-1", "node: 2026-02-30"),
    ],
)
def test_what_is_no_configuration_is_refused(write, text):
    with pytest.raises(ConfigError):
        load_config(write(text))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("command: [/usr/bin/apply, --now]", "command: /usr/bin/apply"),
        ("ports: [5000, 5001]", "ports: '5000'"),
        ("buffer_samples: 1000", "buffer_samples: .inf"),
        ("host: 192.0.2.1", "host: fra-1.example"),
        ("peer: ams-1", f"peer: {'a' * 129}"),
        ("region: eu", f"region: {'a' * 129}"),
    ],
)
def test_what_could_not_work_is_told_before(write, good, bad):
    load_config(write(WHOLE))
    with pytest.raises(ConfigError, match=bad.partition(":")[0]):
        load_config(write(WHOLE.replace(good, bad)))


def test_links_that_are_no_list_are_not_left_out_beside_a_reflector(write):
    with pytest.raises(ConfigError, match="links: must be a list"):
        load_config(write("key_file: key\nlinks: {link: a, address: 192.0.2.7}\nrespond: {host: 192.0.2.1}\n"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReflectorConfig(key=None),
        lambda: ReflectorConfig(key=b"short"),
        lambda: ReflectorConfig(key=b"k" * 16, allow=("everyone",)),
        lambda: LinkConfig("a", "192.0.2.7", key=b"short"),
        lambda: LinkConfig("", "192.0.2.7"),
        lambda: LinkConfig("a\n", "192.0.2.7"),
        lambda: LinkConfig("ä" * 65, "192.0.2.7"),
    ],
)
def test_what_would_be_open_to_strangers_or_refused_later_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_spans_and_sizes():
    assert [seconds(one) for one in ("60s", "500ms", "15m", "2h", "1d", 7, "1.5")] == [
        60,
        0.5,
        900,
        7200,
        86_400,
        7,
        1.5,
    ]
    assert [size_bytes(one) for one in ("64MiB", "10MB", "500KB", 5, "1KiB")] == [64 << 20, 10**7, 500_000, 5, 1024]
    for wrong in ("", "soon", "-5s", None, "5 fortnights"):
        with pytest.raises(ValueError):
            seconds(wrong)


def test_ten_thousand_nodes_do_not_come_at_once():
    turns = [int(phase_s(f"node-{n}", 60.0)) for n in range(10_000)]
    counts = [turns.count(second) for second in range(60)]
    assert max(counts) < 1.4 * 10_000 / 60
    assert min(counts) > 0.6 * 10_000 / 60


def test_a_restart_goes_on_in_step_and_a_clock_that_is_set_changes_nothing():
    first = Schedule("fra-1", 60.0, wall_s=1_000_000.0, monotonic_s=50.0)
    wall = 1_000_000.0 + first.next_s - 50.0
    again = Schedule("fra-1", 60.0, wall_s=1_000_777.0, monotonic_s=9.0)
    assert (1_000_777.0 + again.next_s - 9.0 - wall) % 60 == pytest.approx(0, abs=1e-6)
    before = first.next_s
    first.done(before)
    assert first.next_s == before + 60


def test_turns_that_were_slept_through_are_left_out_and_counted():
    schedule = Schedule("fra-1", 60.0, 0.0, 0.0)
    due = schedule.next_s
    schedule.done(due + 300)
    assert schedule.missed == 5
    assert schedule.next_s == due + 360


@given(st.lists(st.tuples(st.floats(0, 600), st.integers(0, 400)), max_size=60))
def test_no_hour_costs_more_than_allowed(steps):
    budget, now, spent = HourBudget(1000), 0.0, []
    for wait, wanted in steps:
        now += wait
        if budget.spend(wanted, now):
            spent.append((now, wanted))
    for at, _ in spent:
        assert sum(n for t, n in spent if at <= t < at + 3600) <= 1000


def test_what_was_spent_before_a_restart_counts():
    budget = HourBudget(1000, [(0.0, 700)])
    assert not budget.spend(400, 10.0)
    assert budget.spend(400, 3601.0)


def test_a_bucket_gives_what_it_has():
    bucket = TokenBucket(10, 20, 0.0)
    assert sum(bucket.take(0.0) for _ in range(50)) == 20
    assert sum(bucket.take(1.0) for _ in range(50)) == 10
    assert not bucket.take(0.5)


@given(capacity=st.floats(1, 10_000), others=st.floats(0, 0.95), over=st.floats(1.0, 2.0))
def test_a_train_tells_what_others_leave(capacity, others, over):
    sent = capacity * over
    arrived = sent * capacity / max(sent + capacity * others, capacity)
    assert available_mbps(capacity, sent, arrived) == pytest.approx(capacity * (1 - others), rel=1e-6, abs=1e-6)


def test_own_traffic_is_given_back_up_to_the_capacity():
    assert available_mbps(100, 125, 125 * 100 / 165, 40.0) == pytest.approx(100)
    assert available_mbps(100, 125, 100, 40.0) == 100


def test_an_interface_is_found_or_not(tmp_path):
    table = tmp_path / "dev"
    table.write_text("Inter-|\n face |\n  lo: 1 2 3 4 5 6 7 8 9 10\n eth1:100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n")
    assert carried_bytes("eth1", table) == (200, 100)
    assert carried_bytes("eth2", table) is None
    assert carried_bytes("eth1", tmp_path / "nothing") is None
