"""How long a transfer takes on a link whose bandwidth is only known as a forecast.

Scenarios of the bandwidth are drawn from the forecast's quantiles: at each time the marginal distribution is that of
the forecast's horizons, and over time a Gaussian copula ties a scenario together, part of it for good (a link that
disappoints goes on disappointing), the rest forgotten over `MEMORY_STEPS` steps of the cadence. Each scenario is
integrated until the bytes are through; the quantiles of the times over all scenarios are the answer. The draws are the
same each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.errors import InvalidRequestError, MetricAbsentError, Violation
from pba_service.domain.forecast import QUANTILES
from pba_service.domain.samples import text_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pba_service.domain.forecast import Prediction

SCENARIOS = 256
LASTING_SHARE = 0.15
"""Of a scenario's variance that stays for the whole transfer; like the memory chosen on replayed development traces."""

MEMORY_STEPS = 1.0
MOST_STEPS = 240
"""Of the grid on which scenarios are drawn; what lies beyond goes on as the last quarter of them was."""

LONGEST_S = 30 * 86_400.0
COMPLETION_LEVELS = (0.10, 0.50, 0.90)
MOST_LINKS = 100
MOST_STARTS = 9
LONGEST_WINDOW_MS = 24 * 3_600_000
MOST_SPREAD = 3.0
"""The calibrated spread over the model's own, at most; at least its inverse."""

_TAIL = 0.5
"""Beyond the outermost quantiles a scenario goes on by this much of the distance from the median."""


@dataclass(frozen=True, slots=True)
class TransferAsk:
    """A transfer that could be made. Raises `InvalidRequestError` naming every field at fault.

    Attributes:
        transfer_bytes: How much, at least 1.
        link_ids: The links that could carry it, 1 to 100, each once.
        deadline_ms: By when it should be complete; None: no deadline.
        earliest_ms: The earliest start; None: now.
        latest_ms: The latest, at most 24 hours after the earliest; None: only the earliest.
    """

    transfer_bytes: int
    link_ids: tuple[str, ...]
    deadline_ms: int | None = None
    earliest_ms: int | None = None
    latest_ms: int | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.transfer_bytes < 1:
            faults.append(Violation("transfer_bytes", "must be at least 1"))
        if not 1 <= len(self.link_ids) <= MOST_LINKS:
            faults.append(Violation("link_ids", f"has {len(self.link_ids)} links, not 1 to {MOST_LINKS}"))
        for position, link_id in enumerate(self.link_ids[:MOST_LINKS]):
            if fault := text_fault(link_id, required=True):
                faults.append(Violation(f"link_ids[{position}]", fault[1]))
            elif link_id in self.link_ids[:position]:
                faults.append(Violation(f"link_ids[{position}]", "is there twice"))
        if self.earliest_ms is not None and self.latest_ms is not None and self.latest_ms < self.earliest_ms:
            faults.append(Violation("latest_start", "is before earliest_start"))
        if faults:
            raise InvalidRequestError(*faults)

    def starts_ms(self, now_ms: int) -> list[int]:
        """Up to `MOST_STARTS` starts, evenly over the window. Raises `InvalidRequestError` when that is too long."""
        first = max(now_ms, now_ms if self.earliest_ms is None else self.earliest_ms)
        last = first if self.latest_ms is None else max(first, self.latest_ms)
        if last - first > LONGEST_WINDOW_MS:
            raise InvalidRequestError(Violation("latest_start", "is more than 24 hours after the earliest start"))
        return sorted({round(start) for start in np.linspace(first, last, MOST_STARTS).tolist()})


@dataclass(frozen=True, slots=True, eq=False)
class BandwidthForecast:
    """A link's bandwidth over time.

    Attributes:
        link_id: The link.
        made_at_ms: When the newest sample was measured.
        step_ms: Its cadence.
        horizons_ms: int64[n], ascending, from `made_at_ms`.
        quantiles_mbps: float64[n, 5] at `domain.forecast.QUANTILES`, non-decreasing, finite.
    """

    link_id: str
    made_at_ms: int
    step_ms: int
    horizons_ms: NDArray[np.int64]
    quantiles_mbps: NDArray[np.float64]

    @property
    def grid_ms(self) -> int:
        """The grid of the scenarios: the cadence, or what it takes to reach the last horizon on a quicker one."""
        return max(self.step_ms, -(-int(self.horizons_ms[-1]) // MOST_STEPS))


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a transfer takes on a link from a start on.

    Attributes:
        link_id: The link.
        start_ms: The start.
        completion_s: At `COMPLETION_LEVELS`; infinite beyond 30 days.
        deadline_probability: Of being complete by the deadline; None without one.
    """

    link_id: str
    start_ms: int
    completion_s: tuple[float, ...]
    deadline_probability: float | None


def bandwidth_forecast(prediction: Prediction, path: Iterable[tuple[int, NDArray[np.float32]]]) -> BandwidthForecast:
    """A link's bandwidth over time: the model's path, moved and widened as the combined prediction says.

    Only the product's horizon is combined with other forecasters and calibrated on the link. What that changed there,
    in the ratio of the medians and in the width of the 80 % interval, is taken over to the other horizons.

    Args:
        prediction: The link's prediction.
        path: The model's own (horizon in ms, float32[4, 5] quantiles), ascending.

    Raises:
        MetricAbsentError: The link's recent samples have no bandwidth.
    """
    target = np.asarray(prediction.quantiles[0], np.float64)
    value = float(prediction.values[0])
    if not np.isfinite(value):
        raise MetricAbsentError(prediction.link_id, "bandwidth_mbps")
    target = np.where(np.isfinite(target), target, value)
    own = [(horizon, np.asarray(quantiles[0], np.float64)) for horizon, quantiles in path]
    own = [(horizon, row) for horizon, row in own if np.isfinite(row).all()]
    same = next((row for horizon, row in own if horizon == prediction.horizon_ms), None)
    points = {prediction.horizon_ms: target}
    if same is not None:
        median = QUANTILES.index(0.50)
        moved = target[median] / same[median] if same[median] > 0 else 1.0
        width, wanted = same[-2] - same[1], target[-2] - target[1]
        wider = wanted / (width * moved) if width * moved > 0 else 1.0
        wider = min(max(wider, 1 / MOST_SPREAD), MOST_SPREAD)
        for horizon, row in own:
            middle = row[median] * moved
            points.setdefault(horizon, middle + (row * moved - middle) * wider)
    horizons = sorted(points)
    table = np.maximum.accumulate(np.maximum(np.stack([points[horizon] for horizon in horizons]), 0.0), axis=1)
    return BandwidthForecast(
        prediction.link_id, prediction.made_at_ms, prediction.step_ms, np.array(horizons, np.int64), table
    )


def estimates(
    forecast: BandwidthForecast, *, transfer_bytes: int, starts_ms: Sequence[int], deadline_ms: int | None
) -> list[Estimate]:
    """The estimate for each start.

    Args:
        forecast: The link's bandwidth.
        transfer_bytes: At least 1.
        starts_ms: When the transfer could start.
        deadline_ms: By when it should be complete.
    """
    found = []
    for start_ms in starts_ms:
        times = completion_times_s(forecast, transfer_bytes=transfer_bytes, start_ms=start_ms)
        probability = None if deadline_ms is None else float((times * 1000 <= deadline_ms - start_ms).mean())
        levels = np.quantile(times, COMPLETION_LEVELS, method="inverted_cdf")
        told = np.where(levels <= LONGEST_S, levels, np.inf).tolist()
        found.append(Estimate(forecast.link_id, start_ms, tuple(told), probability))
    return found


def best(found: Sequence[Estimate]) -> int | None:
    """Position of the best: likeliest to meet the deadline, then the earliest expected end, then the surest."""
    if not found:
        return None

    def rank(position: int) -> tuple[float, float, float]:
        one = found[position]
        return (
            -round(one.deadline_probability or 0.0, 2),
            one.start_ms + 1000 * one.completion_s[1],
            one.start_ms + 1000 * one.completion_s[2],
        )

    return min(range(len(found)), key=rank)


def completion_times_s(forecast: BandwidthForecast, *, transfer_bytes: int, start_ms: int) -> NDArray[np.float64]:
    """float64[SCENARIOS], ascending: seconds from the start; infinite where it never ends."""
    step_s = forecast.grid_ms / 1e3
    rates = scenarios(forecast, start_ms)  # Mbit/s, [scenarios, steps]
    bits = transfer_bytes * 8 / 1e6
    sent = np.cumsum(rates, axis=1) * step_s
    # the steps before the one in which the last bit goes, and the part of that one
    through = np.argmax(sent >= bits, axis=1)
    complete = sent[:, -1] >= bits
    rows = np.arange(len(rates))
    before = np.where(through > 0, sent[rows, np.maximum(through - 1, 0)], 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        within = through * step_s + (bits - before) / rates[rows, through]
        later_rate = rates[:, -max(rates.shape[1] // 4, 1) :].mean(axis=1)
        beyond = rates.shape[1] * step_s + (bits - sent[:, -1]) / later_rate
    times = np.where(complete, within, beyond)
    return np.sort(np.where(np.isfinite(times), times, np.inf))


def scenarios(forecast: BandwidthForecast, start_ms: int) -> NDArray[np.float64]:
    """float64[SCENARIOS, MOST_STEPS]: bandwidth in Mbit/s in each step of the grid from the start on."""
    ahead = start_ms - forecast.made_at_ms + forecast.grid_ms * (np.arange(MOST_STEPS) + 0.5)
    marginals = np.stack(
        [np.interp(ahead, forecast.horizons_ms, column) for column in forecast.quantiles_mbps.T], axis=1
    )  # [steps, 5]
    median = QUANTILES.index(0.50)
    low = marginals[:, :1] - _TAIL * (marginals[:, median : median + 1] - marginals[:, :1])
    high = marginals[:, -1:] + _TAIL * (marginals[:, -1:] - marginals[:, median : median + 1])
    table = np.maximum(np.concatenate([low, marginals, high], axis=1), 0.0)
    levels = np.array([0.0, *QUANTILES, 1.0])
    probabilities = _probabilities()
    after = np.clip(np.searchsorted(levels, probabilities, side="right"), 1, len(levels) - 1)
    share = (probabilities - levels[after - 1]) / (levels[after] - levels[after - 1])
    steps = np.arange(MOST_STEPS)
    result: NDArray[np.float64] = table[steps, after - 1] * (1 - share) + table[steps, after] * share
    return result


@lru_cache(maxsize=1)
def _probabilities() -> NDArray[np.float64]:
    """float64[SCENARIOS, MOST_STEPS]: at which level of the marginal each scenario is at each step, uniform in each."""
    chance = np.random.Generator(np.random.PCG64(20_240_101))
    noise = chance.standard_normal((SCENARIOS, MOST_STEPS + 1))
    memory = np.exp(-1 / MEMORY_STEPS)
    moving = np.empty((SCENARIOS, MOST_STEPS))
    moving[:, 0] = noise[:, 0]
    for step in range(1, MOST_STEPS):
        moving[:, step] = memory * moving[:, step - 1] + np.sqrt(1 - memory**2) * noise[:, step]
    normal = np.sqrt(LASTING_SHARE) * noise[:, -1:] + np.sqrt(1 - LASTING_SHARE) * moving
    ranks = np.argsort(np.argsort(normal, axis=0), axis=0)  # exactly uniform over the scenarios of each step
    return (ranks + 0.5) / SCENARIOS
