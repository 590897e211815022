"""What can be wrong with a model."""

from __future__ import annotations


class ModelRefusedError(Exception):
    """A model was not loaded; whatever served before goes on serving.

    For operators: it names files, so it is no `PbaError`, which callers are told of.

    Attributes:
        reason: Why.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"the model at {where} was refused: {reason}")
        self.reason = reason
