"""What is believed of a link before its own record says more.

Chosen on the first 80 % of 65 measured links, each collection counting once, with forecasts of models that had not seen
the collection; `docs/forecasting.md` says how. Priors of their own for each metric or forecaster, learnt over all other
collections, did not do better than these few numbers and are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online.experts import EXPERTS, MODEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL_WEIGHT = 0.7
"""Weight of the model among the forecasters of a new link; the others share the rest evenly."""

TAIL_WIDTH = np.array([-2.2, -1.7, 1.7, 2.2], np.float32)
"""Quantiles 0.05, 0.10, 0.90 and 0.95 around the median, in units of the mean absolute error."""

CONFIDENCE = np.array([0.0, 0.5, 0.5], np.float32)
"""Logistic of a hit: constant, logit of the quantiles' probability of a hit, logit of the recent hit rate."""

HIT_RATE = 0.7
"""Recent hit rate of a new link."""


def weights() -> NDArray[np.float32]:
    """The weight of each forecaster for a new link, float32[experts]."""
    share = np.full(len(EXPERTS), (1 - MODEL_WEIGHT) / (len(EXPERTS) - 1), np.float32)
    share[MODEL] = MODEL_WEIGHT
    return share
