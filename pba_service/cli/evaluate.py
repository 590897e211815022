"""`pba evaluate` and `pba backtest`."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import typer

from pba_service.cli.progress import Progress
from pba_service.cli.told import CommandError, tell

if TYPE_CHECKING:
    from pathlib import Path

    from pba_service.evaluation.scores import LinkScores
    from pba_service.evaluation.summary import Summary


def evaluate_file(
    file: Path,
    model: Path,
    *,
    part: float,
    base_s: float,
    prefix: str = "",
    as_json: bool = False,
    report: Path | None = None,
) -> None:
    """Replays a file through the code that serves, and prints how right it was.

    Raises:
        CommandError: There is nothing to score, the model is refused, or the report cannot be written.
    """
    if report and find_spec("matplotlib") is None:  # not after minutes of replaying
        raise CommandError("a report needs matplotlib: pip install 'pba[train]'")
    from pba_service import evaluation  # noqa: PLC0415 - only these commands need it
    from pba_service.domain.errors import ModelRefusedError  # noqa: PLC0415
    from pba_service.files import FirstFault, read_links  # noqa: PLC0415
    from pba_service.runtime.session import load_model  # noqa: PLC0415

    try:
        loaded = load_model(model)
    except ModelRefusedError as error:
        raise CommandError(str(error)) from None
    faults = FirstFault(file, leaves_out_empty=True)
    read = read_links(file, on_fault=faults)
    if faults.empty_rows:
        tell(f"{faults.empty_rows:,} rows in which nothing was measured are left out")
    links = {link.info.link_id: link.series for link in read if link.info.link_id.startswith(prefix)}
    samples = sum(map(len, links.values()))
    tell(f"replaying {samples} samples of {len(links)} links with {loaded.info.version}")
    done = 0

    def on_progress(share: float) -> None:
        nonlocal done
        bar.advance(round(share * samples) - done)
        done = round(share * samples)

    with Progress("replay", samples, "samples") as bar:
        replayed = evaluation.replay(links, loaded, base_ms=round(base_s * 1000), on_progress=on_progress)
    scored = evaluation.score_all(replayed, collection_of, part=part)
    if not scored:
        raise CommandError("no link has enough history for a forecast whose target was measured")
    summary = evaluation.summarise(scored)
    typer.echo(_json(summary, scored) if as_json else evaluation.text_table(summary))
    if report:
        from pba_service.evaluation.report import html_report  # noqa: PLC0415 - needs matplotlib

        page = html_report(f"PBA on {file.name}", summary, scored, replayed, part=part)
        try:
            report.write_text(page, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{report}: {error.strerror or error}") from None
        tell(f"wrote {report}")


def collection_of(link_id: str) -> str:
    """What links are counted together: those whose ids begin alike up to the first slash."""
    return link_id.partition("/")[0]


def _json(summary: Summary, scored: list[LinkScores]) -> str:
    links = [
        {
            "link_id": link.link_id,
            "collection": link.collection,
            "metrics": [dataclasses.asdict(m) for m in link.metrics],
        }
        for link in scored
    ]
    return json.dumps(_finite({"summary": dataclasses.asdict(summary), "links": links}), indent=1)


def _finite(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
