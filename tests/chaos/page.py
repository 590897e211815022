"""Puts what a run found into docs/reliability.md, between two marks."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def put_into_page(name, text, page=PAGE):
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->`."""
    before, found, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, closed, after = rest.partition(f"<!-- /{name} -->")
    if not (found and closed):
        raise ValueError(f"{page} has no place for {name!r}")
    page.write_text(f"{before}{found}{text}\n{closed}{after}")
