"""Taking turns, and what is said of it: medians, and the spread of the ratios within a round."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
"""The least number of turns that a figure rests on."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    Attributes:
        what: What was measured.
        unit: Of `ours` and `control`.
        ours: The median.
        control: The control's median; None where there is nothing to compare with.
        control_name: What the control is.
        ratio: The median of ours over control, round by round; None without a control.
        low: The least of these ratios, or of `ours` without a control.
        high: The greatest.
        goal: Like '>= 0.9'; empty where there is none. It is about `ratio` where there is one, else about `ours`.
        rounds: How often it was measured.
        note: What else is to be known.
    """

    what: str
    unit: str
    ours: float
    control: float | None
    control_name: str
    ratio: float | None
    low: float
    high: float
    goal: str = ""
    rounds: int = ROUNDS
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if not self.goal:
            return None
        sign, _, bound = self.goal.partition(" ")
        value = self.ours if self.ratio is None else self.ratio
        return value >= float(bound) if sign == ">=" else value <= float(bound)


@dataclass(slots=True)
class Section:
    """What a suite found.

    Attributes:
        suite: Its name.
        figures: Its lines.
        notes: What is to be known about all of them.
        machine: Filled in when it is stored.
    """

    suite: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the file it is stored in."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Section:
        """From the file."""
        return cls(stored["suite"], [Figure(**one) for one in stored["figures"]], stored["notes"], stored["machine"])


def turns(
    works: dict[str, Callable[[int], float]], rounds: int = ROUNDS, *, warm: bool = True
) -> dict[str, list[float]]:
    """Runs each work in each round, in alternating order, so that whatever else the machine does meets all alike.

    Args:
        works: By name, what measures once; it is given the round, which is -1 when warming up.
        rounds: How often.
        warm: Whether to begin with a round that is thrown away.

    Returns:
        By name, the values.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-1 if warm else 0, rounds):
        order = list(works) if turn % 2 else list(reversed(works))
        for name in order:
            value = works[name](turn)
            if turn >= 0:
                found[name].append(value)
    return found


def compared(
    what: str,
    unit: str,
    ours: list[float],
    control: list[float],
    control_name: str,
    *,
    goal: str = "",
    note: str = "",
    inverse: bool = False,
) -> Figure:
    """A figure from values of the same rounds; `inverse`: control over ours, for times, so that more is better."""
    ratios = [(theirs / our) if inverse else (our / theirs) for our, theirs in zip(ours, control, strict=True)]
    return Figure(
        what,
        unit,
        statistics.median(ours),
        statistics.median(control),
        control_name,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        goal,
        len(ratios),
        note,
    )


def plain(what: str, unit: str, values: list[float], *, goal: str = "", note: str = "") -> Figure:
    """A figure that has no control."""
    middle = statistics.median(values)
    return Figure(what, unit, middle, None, "", None, min(values), max(values), goal, len(values), note)
