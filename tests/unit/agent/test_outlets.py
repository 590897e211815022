"""What an agent hands on besides the service, and what its page says."""

import json
import re
import sys
from pathlib import Path

import pytest

from pba_client.agent import Decision, Measurement, Origin, Source, load_config
from pba_client.agent.__main__ import main
from pba_client.agent.agent import read_spent, write_spent
from pba_client.agent.outlets import Outlets, measurement_fields, metrics_text
from pba_client.agent.tally import share

ROOT = Path(__file__).parents[3]
DECISION = Decision("fra/ams", Origin.LOCAL, 4, 65_536, 16_384, 65_536, None, "why")
MEASURED = Measurement(
    "fra/ams", 5, 94.0, None, 0.01, None, (Source.TRAIN, Source.ABSENT, Source.PROBE, Source.ABSENT), share(1, 100)
)


def test_a_decision_goes_to_a_file_of_its_link_and_to_a_command(tmp_path):
    heard = tmp_path / "heard"
    command = (sys.executable, "-c", f"import sys; open({str(heard)!r}, 'w').write(sys.stdin.read())")
    Outlets(tmp_path / "run", command).decided(DECISION)
    told = json.loads((tmp_path / "run" / "fra%2Fams.json").read_text())
    assert told == json.loads(heard.read_text())
    assert (told["link"], told["origin"], told["streams"], told["pacing_mbps"]) == ("fra/ams", "local", 4, None)


def test_a_command_that_fails_is_told():
    with pytest.raises(Exception, match="exit status 3"):
        Outlets(None, (sys.executable, "-c", "raise SystemExit(3)")).decided(DECISION)


def test_a_sample_is_told_with_its_sources_and_without_what_was_not_measured():
    fields = measurement_fields(MEASURED)
    assert fields["bandwidth_mbps_source"] == "train"
    assert fields["packet_loss_ratio_source"] == "probe"
    assert fields["loss_trials"] == 100
    assert "latency_ms" not in fields


def test_metrics_are_in_the_format_of_prometheus():
    parser = pytest.importorskip("prometheus_client.parser")
    text = metrics_text({"pba_agent_samples_waiting": 3}, {'a"b\\c': MEASURED})
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert families["pba_agent_samples_waiting"].samples[0].value == 3
    labels = [sample.labels for sample in families["pba_agent_value"].samples]
    assert labels[0] == {"link": 'a"b\\c', "metric": "bandwidth_mbps", "source": "train"}
    assert len(labels) == 2


def test_a_counter_is_told_to_the_last_digit():
    sent = 12_345_678_901_234
    text = metrics_text({"pba_agent_interface_sent_bytes_total": sent, "pba_agent_service_away": True}, {})
    told = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    assert int(told["pba_agent_interface_sent_bytes_total"]) == sent
    assert told["pba_agent_service_away"] == "1"


def test_what_trains_used_survives_a_restart(tmp_path):
    write_spent(tmp_path / "spent", {"fra/ams": [(1.0, 100), (2.0, 50)]})
    ((first, count), _) = read_spent(tmp_path / "spent")["fra/ams"]
    assert (first, count) == (pytest.approx(1.0, abs=0.5), 100)
    assert read_spent(tmp_path / "nothing") == {}
    (tmp_path / "spent").write_text('{"fra/ams": [[1e18, 70]]}')
    ((at, count),) = read_spent(tmp_path / "spent")["fra/ams"]
    assert at < 1e9, "what is of the future by the wall clock counts as of now"
    for foreign in ("[7", '{"a": [[0, 1e999]]}', "[" * 100_000, "null"):
        (tmp_path / "spent").write_text(foreign)
        assert read_spent(tmp_path / "spent") == {}


def page_config(folder):
    page = (ROOT / "docs" / "agent.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (folder / "agent.yaml").write_text(text)
    (folder / "key").write_text("a key that both sides hold")
    return folder / "agent.yaml"


def test_the_page_shows_a_configuration_that_works(tmp_path):
    config = load_config(page_config(tmp_path))
    assert config.links[0].ports == {5000}
    assert config.respond is not None


def test_the_commands_check_and_complain(tmp_path, capsys):
    path = page_config(tmp_path)
    assert main(["check", "--config", str(path)]) == 0
    assert "1 links every 60 s" in capsys.readouterr().out
    path.write_text("nonsense: 1")
    assert main(["check", "--config", str(path)]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_the_unit_runs_what_there_is():
    unit = (ROOT / "deploy" / "systemd" / "pba-agent.service").read_text()
    commands = re.findall(r"^Exec\w+=/usr/bin/env pba-agent (\w+)", unit, re.MULTILINE)
    assert set(commands) == {"check", "run"}
    for family in ("AF_INET", "AF_INET6", "AF_NETLINK"):
        assert family in unit
