"""What is believed of a link before its own record says more: learnt over the training part of many links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pba_service.domain.online.experts import EXPERTS, MODEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL_WEIGHT = 0.5
"""Weight of the model among the experts of a new link; the others share the rest."""

TAIL_WIDTH = np.array([-2.2, -1.7, 1.7, 2.2], np.float32)
"""Quantiles 0.05, 0.10, 0.90 and 0.95 in units of the scale, where the model gives none."""

CONFIDENCE = np.array([0.0, 0.7, 0.3], np.float32)
"""Logistic of a hit: constant, logit of the interval's probability, logit of the recent hit rate."""

HIT_RATE = 0.7
"""Recent hit rate of a new link."""


def log_weights() -> NDArray[np.float32]:
    """float32[experts]."""
    weight: NDArray[np.float64] = np.full(len(EXPERTS), (1 - MODEL_WEIGHT) / (len(EXPERTS) - 1))
    weight[MODEL] = MODEL_WEIGHT
    logs: NDArray[np.float32] = np.log(weight).astype(np.float32)
    return logs
