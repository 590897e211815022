"""Answers about links that the request did not name, cut down to those that the caller may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pba_service.serving.gate import CURRENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pba_service.access.callers import Patterns
    from pba_service.engine.api import Service
    from pba_service.engine.ports import LinkSummary
    from pba_service.engine.subscriptions import Update
    from pba_service.serving.requests import Page


async def links(service: Service, page: Page) -> list[LinkSummary]:
    """The first links of a page, and one more if there is one; nothing shows that there are others in between."""
    visit = CURRENT.get()
    caller = visit.caller if visit else None
    limit = page.limit + 1  # one more tells whether there is a next page
    if caller is None or caller.reads_everything:
        return await service.links(prefix=page.prefix, region=page.region, after=page.after, limit=limit)
    readable = caller.readable
    asks = [(prefix, page.region) for prefix in _within(readable, page)]
    asks += [(page.prefix, region) for region in sorted(caller.readable_regions) if page.region in {"", region}]
    found: dict[str, LinkSummary] = {}
    for prefix, region in asks:
        for summary in await service.links(prefix=prefix, region=region, after=page.after, limit=limit):
            found[summary.info.link_id] = summary
    for link_id in sorted(readable.ids):
        if link_id in found or link_id <= page.after or not link_id.startswith(page.prefix):
            continue
        # of all ids that begin with an id the id itself comes first
        for summary in await service.links(prefix=link_id, region="", after="", limit=1):
            if summary.info.link_id == link_id and page.region in {"", summary.info.region}:
                found[link_id] = summary
    return [found[link_id] for link_id in sorted(found)[:limit]]


def _within(readable: Patterns, page: Page) -> list[str]:
    """The beginnings of ids that both the caller may read and the page is about."""
    if page.prefix.startswith(readable.prefixes):
        return [page.prefix]
    return [prefix for prefix in readable.prefixes if prefix.startswith(page.prefix)]


async def updates(source: AsyncIterator[Update]) -> AsyncIterator[Update]:
    """Updates of a subscription without the links that the caller may not read now; none for nothing but such."""
    visit = CURRENT.get()
    told = False
    async for update in source:
        if visit is None or visit.caller is None or visit.caller.reads_everything:
            yield update
            continue
        seen = await visit.sees([prediction.link_id for prediction in update.predictions])
        kept = [one for one, visible in zip(update.predictions, seen, strict=True) if visible]
        if kept or (update.snapshot_complete and not told):
            yield type(update)(kept, update.skipped_updates, update.snapshot_complete)
        told = told or update.snapshot_complete
