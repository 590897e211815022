"""Distances in one byte: sign and logarithm of the magnitude, within 6 % over twenty octaves.

What a forecaster said is needed once more, when its forecast is judged. There its distance from the combination, in
units of the mean absolute error, matters to a few percent; four bytes for each of 12 forecasters, four metrics and 18
pending forecasts would make up most of a link's state. Far distances must stay apart as well: on a link that is quiet
for long the mean absolute error is next to nothing, and a burst lies tens of thousands of it away, where it matters
most which forecaster was nearer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ABSENT = -128

_LOWEST_OCTAVE, _OCTAVES, _CODES = -5, 20, 126
_PER_OCTAVE = np.float32(_CODES / _OCTAVES)
_NEAREST, _FARTHEST = np.float32(0), np.float32(_CODES + 1)
_NEAR = np.float32(2.0 ** (2 * _LOWEST_OCTAVE))
"""What is nearer than this has the same code, and no logarithm of zero."""


def _decoded() -> NDArray[np.float32]:
    codes = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float64)
    magnitude = 2.0 ** ((np.abs(codes) - 1) / _CODES * _OCTAVES + _LOWEST_OCTAVE)
    table = np.where(codes == 0, 0, np.sign(codes) * magnitude)
    table[codes == ABSENT] = np.nan
    return table.astype(np.float32)


_TABLE = _decoded()


def pack(distances: NDArray[np.float32]) -> NDArray[np.int8]:
    """int8 of the same shape; NaN is kept, magnitudes below 2^-5 become 0, those above 2^15 become 2^15."""
    code = np.log2(np.maximum(np.abs(distances), _NEAR))
    code -= _LOWEST_OCTAVE
    code *= _PER_OCTAVE
    np.rint(code, out=code)
    code += 1
    code.clip(_NEAREST, _FARTHEST, out=code)
    np.copysign(code, distances, out=code)
    np.copyto(code, ABSENT, where=np.isnan(distances))
    packed: NDArray[np.int8] = code.astype(np.int8)
    return packed


def unpack(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """float32 of the same shape."""
    return _TABLE.take(codes.view(np.uint8))
