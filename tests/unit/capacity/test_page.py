import json

import pytest

from docs import capacity_page
from pba_service.capacity import Fleet, measured, use
from pba_service.cli.app import run


def test_the_page_is_what_the_constants_and_the_model_say():
    assert capacity_page.PAGE.read_text() == capacity_page.page(), "make docs"


def test_the_model_holds_for_a_load_that_no_constant_comes_from():
    seen = measured().validation
    demand = capacity_page.validation_demand(seen)
    used = use(demand, measured().costs, Fleet(2, 1, 1))
    assert 0.5 < 2 * used.process / seen["process_cores"] < 2
    assert 0.5 < used.store / seen["store_cores"] < 2


def test_the_command_prints_the_plan(capsys):
    assert run(["plan", "--links", "10000", "--interval", "60s"]) == 0
    told = capsys.readouterr().out
    assert "10,000 links, a sample each 60 s: 166.7 samples/s" in told
    assert "replicas" in told
    assert "short first" in told


def test_and_for_programs(capsys):
    assert run(["plan", "--links", "10000", "--interval", "5m", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["demand"]["interval_s"] == 300
    assert told["carries"]
    assert told["fleet"]["replicas"] >= 1


def test_a_fleet_that_is_too_small_fails(capsys):
    assert run(["plan", "--links", "3000000", "--replicas", "1"]) == 1
    told = capsys.readouterr().out
    assert "TOO SMALL" in told
    assert "grows without end" in told
    assert run(["plan", "--links", "3000000", "--replicas", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["use"]["queue_ms"] is None


def test_wrong_usage_is_one_line(capsys):
    assert run(["plan", "--links", "0"]) == 2
    assert run(["plan", "--links", "10", "--interval", "soon"]) == 2
    assert "'soon' is no duration" in capsys.readouterr().err
    for option in ("--updates", "--asks", "--predicts", "--redis-memory", "--network"):
        assert run(["plan", "--links", "10", option, "inf"]) == 2
        assert capsys.readouterr().err.startswith(f"pba: invalid value for '{option}': ")
