"""What can be wrong with a model."""

from __future__ import annotations

from pba_service.domain.errors import PbaError


class ModelRefusedError(PbaError):
    """A model was not loaded; whatever served before goes on serving.

    Attributes:
        reason: Why, fit for an operator's eyes.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"the model at {where} was refused: {reason}")
        self.reason = reason
