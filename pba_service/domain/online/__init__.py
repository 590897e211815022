"""Online learning: what is learnt of each link from its own record, and the forecasts that come of it.

    states = decode(blobs)
    advanced = advance(states, ...)     # settles what has come true, forecasts, remembers
    blobs = encode(advanced.states)

Everything works on many links at once; a link's state is a small record of fixed layout (`state.py`).
"""

from pba_service.domain.online.advance import Advance, Forecasts, advance, contributions, forecast_once
from pba_service.domain.online.experts import EXPERTS
from pba_service.domain.online.state import decode, encode, last_made_at_ms, put, take
from pba_service.domain.online.summary import LinkRecord, records

__all__ = [
    "EXPERTS",
    "Advance",
    "Forecasts",
    "LinkRecord",
    "advance",
    "contributions",
    "decode",
    "encode",
    "forecast_once",
    "last_made_at_ms",
    "put",
    "records",
    "take",
]
