"""The short form of the chaos suite; `make chaos` is the long one."""

from tests.chaos import scenes


async def test_what_is_acknowledged_is_there_once_whatever_fails(tmp_path):
    outcomes = [outcome async for outcome in scenes.short(tmp_path)]
    assert len(outcomes) == 3
    assert all(outcome.acknowledged for outcome in outcomes)
    assert [fault for outcome in outcomes for fault in outcome.faults] == []
