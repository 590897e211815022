"""The files that are made by code, by their path under deploy/."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.generate.dashboards import every

_RULES = Path(__file__).parents[1] / "prometheus" / "rules"


def made() -> dict[str, str]:
    """Dashboards as `POST /api/dashboards/db` takes them, and the rules as a PrometheusRule."""
    files = {}
    for name, board in every().items():
        document = {"dashboard": json.loads(JSONEncoder(sort_keys=True).encode(board.build())), "overwrite": True}
        files[f"grafana/{name}.json"] = json.dumps(document, indent=1, sort_keys=True) + "\n"
    files["kubernetes/components/monitoring/prometheus-rule.yaml"] = _prometheus_rule()
    return files


def _prometheus_rule() -> str:
    groups = [group for path in sorted(_RULES.glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "pba"},
        "spec": {"groups": groups},
    }
    head = "# Made from deploy/prometheus/rules by `python -m deploy.generate`.\n"
    return head + yaml.safe_dump(resource, sort_keys=False, width=120)
