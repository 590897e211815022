"""Panels as all dashboards here have them: a title, what it says, its unit, and queries with their legends."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, stat, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
"""Whichever Prometheus the viewer picks: a dashboard that names one cannot be imported elsewhere."""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and what its series are called."""

    expr: str
    legend: str = ""


def _targets(queries: tuple[Query, ...]) -> list[Dataquery]:
    letters = "ABCDEFGHIJ"
    return [
        Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letters[i]).datasource(SOURCE)
        for i, query in enumerate(queries)
    ]


def graph(title: str, text: str, unit: str, *queries: Query, wide: bool = False) -> timeseries.Panel:
    """Values over time; `wide` takes the whole row."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .datasource(SOURCE)
        .height(8)
        .span(24 if wide else 12)
        .fill_opacity(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)  # noqa: FBT003 - the builder's own signature
        )
    )
    for target in _targets(queries):
        panel = panel.with_target(target)
    return panel


def number(title: str, text: str, unit: str, query: Query) -> stat.Panel:
    """One number, now."""
    [target] = _targets((query,))
    return (
        stat.Panel().title(title).description(text).unit(unit).datasource(SOURCE).height(4).span(6).with_target(target)
    )


def board(uid: str, title: str, text: str) -> dashboard.Dashboard:
    """An empty dashboard with the choice of a Prometheus."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(text)
        .tags(["pba"])
        .time("now-6h", "now")
        .refresh("30s")
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )


def choice(name: str, label: str, values: str) -> dashboard.QueryVariable:
    """A variable whose values a query gives."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(values)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
