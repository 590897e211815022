"""What other forecasters miss at each hour: a mean over days, however often a link is measured."""

import numpy as np
import pytest

from pba_service.domain.online import hourly

HOUR = 3_600_000
DAY = 24 * HOUR


def taught(days, misses, step_ms):
    """The usual error in the middle of hour 0 after so many days, each of which missed by one number throughout."""
    table = np.zeros((1, 24, 4), np.float32)
    for turn, target in enumerate(np.arange(days * DAY // step_ms) * step_ms):
        hourly.learn(
            table,
            np.full((1, 4), misses(target // DAY), np.float32),
            np.full((1, 4), 10, np.float32),
            target_ms=np.array([target]),
            step_ms=np.array([step_ms]),
            settled=np.full((1, 4), turn, np.uint32),
        )
    return hourly.usual_error(table, np.array([HOUR // 2]))[0, 0]


@pytest.mark.parametrize("hours", [1, 2, 4, 12, 24])
def test_an_hour_is_a_mean_of_as_many_days_on_slow_cadences(hours):
    assert taught(3, float, hours * HOUR) == pytest.approx(1, abs=1e-3)  # of 0, 1 and 2
    # of five days from then on: one that is not like the others moves the mean by a fifth
    assert taught(21, lambda day: float(day == 20), hours * HOUR) == pytest.approx(0.2, abs=1e-3)
