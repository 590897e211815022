"""Whether the sizes of a graph's tensors follow from the number of windows alone.

Then one run with the most windows shows the most memory that a model takes. For each tensor is known whether its
values, and whether its shape, depend on values that come in. Along which axes is not: a graph that counts values (as
NonZero does, with which the shipped one finds the metrics that are there) and lays the count along two axes can take
more than that run showed.
"""

from __future__ import annotations

_SIZED_BY: dict[str, tuple[int, ...]] = {
    "Expand": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
}
"""Operators whose outputs may be larger than all inputs, and the inputs that say how large."""

_CUT_BY: dict[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "TopK": (1,),
}
"""Those that make outputs of another shape and no more numbers."""

_OF_SHAPES = {"Shape", "Size"}
_COUNTS_VALUES = {"NonZero"}


class Sizes:
    """What is known of the tensors so far, while the nodes are gone through in their order."""

    def __init__(self) -> None:
        """Knows nothing: a tensor that no node made and no weight is has come in."""
        self._values: dict[str, bool] = {"": False}  # an optional input that is left out
        self._shapes: dict[str, bool] = {"": False}

    def constant(self, name: str) -> None:
        """There are weights of this name; to be said before the nodes that use them."""
        self._values[name] = self._shapes[name] = False

    def node(self, operator: str, inputs: list[str], outputs: list[str]) -> bool:
        """Takes a node; False when values that come in say how large its output is."""
        values = [self._values.get(name, True) for name in inputs]
        shapes = [self._shapes.get(name, False) for name in inputs]

        def any_of(places: tuple[int, ...]) -> bool:
            return any(values[place] or shapes[place] for place in places if place < len(values))

        if any_of(_SIZED_BY.get(operator, ())):
            return False
        of_shape = operator in _OF_SHAPES
        value = any(shapes) if of_shape else any(values)
        shape = not of_shape and (any(shapes) or operator in _COUNTS_VALUES or any_of(_CUT_BY.get(operator, ())))
        for name in outputs:
            self._values[name], self._shapes[name] = value, shape
        return True
