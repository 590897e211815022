"""The alerting rules: read by promtool, and each fires when it should and only then."""

import pytest
import yaml

from tests.deploy.tools import run, tool
from tests.process import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"


def test_the_rules_and_the_configuration_are_valid():
    run(tool("promtool"), "check", "rules", *map(str, sorted((PROMETHEUS / "rules").glob("*.yaml"))))
    run(tool("promtool"), "check", "config", str(PROMETHEUS / "prometheus.yml"))


@pytest.mark.parametrize("file", sorted(path.name for path in (PROMETHEUS / "tests").glob("*.yaml")))
def test_each_alert_fires_when_it_should_and_only_then(file):
    run(tool("promtool"), "test", "rules", str(PROMETHEUS / "tests" / file))


def test_no_alert_is_without_a_test():
    alerts = {
        rule["alert"]
        for path in (PROMETHEUS / "rules").glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    tested = {
        case["alertname"]
        for path in (PROMETHEUS / "tests").glob("*.yaml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert alerts == tested


def test_every_alert_names_a_section_of_the_runbook():
    page = (ROOT / "docs" / "operations.md").read_text()
    anchors = {
        line.lstrip("# ").strip().lower().replace(" ", "-") for line in page.splitlines() if line.startswith("#")
    }
    for path in (PROMETHEUS / "rules").glob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    where, _, anchor = rule["annotations"]["runbook"].partition("#")
                    assert where == "docs/operations.md"
                    assert anchor in anchors, rule["alert"]
