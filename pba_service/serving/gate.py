"""The gate before the servicers: who calls, whether they may, and whether it is not too much.

`access/policy.py` says which role a call takes; here a call's links are found in its request. Denials are uniform: they
tell neither why, nor whether a link exists. The log and the metrics tell the operator.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from pba_service.access.authenticator import Credential, UnidentifiedError
from pba_service.access.callers import Caller, Role
from pba_service.access.limits import Places, Rate, peer_key
from pba_service.access.policy import Links, rule_of
from pba_service.domain.errors import NotAuthenticatedError, NotPermittedError, RateExceededError
from pba_service.serving.named import is_push, named_links, pushed_nodes, pushed_regions, pushed_samples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from pba_service.access.authenticator import Authenticator
    from pba_service.observability.access import AccessMetrics

_BEARER = "bearer "
_LOGGED_PER_S = 5.0
_STREAM_RETRY_S = 5.0

_NOBODY = Caller("nobody", frozenset())
"""Who a caller with an open stream is between its withdrawal and the end of the stream: it may nothing."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What each caller may ask for; 0: without a bound.

    Attributes:
        calls_per_s: Calls begun.
        samples_per_s: Samples pushed.
        streams: Streams open at the same time.
    """

    calls_per_s: float = 0.0
    samples_per_s: float = 0.0
    streams: int = 0


class RegionsOf(Protocol):
    """Says in which region links are."""

    async def of(self, link_ids: Sequence[str]) -> list[str]:
        """The region of each link; empty for none, and for a link that does not exist."""
        ...


class LinkBound(Protocol):
    """Bounds how many links a caller makes."""

    async def admit(self, caller: Caller, link_ids: Collection[str], regions: Collection[str]) -> None:
        """Returns when links of these regions may be pushed. Raises `CapacityExceededError`."""
        ...


class Visit:
    """A call that was let in.

    Attributes:
        method: Its path.
        caller: Who it is now; None: nobody is asked who they are, and all may do everything.
        credential: What it has shown.
        key: Whose allowance it uses.
        limit: Ends a stream; None for a call that ends by itself.
    """

    def __init__(self, gate: Gate, method: str, peer: str) -> None:
        self.method = method
        self.caller: Caller | None = None
        self.credential = Credential()
        self.key = peer_key(peer)
        self.limit: asyncio.Timeout | None = None
        self._gate = gate
        self._rule = rule_of(method)

    async def judge(self, request: Any, *, patient: bool = False) -> None:
        """Whether a request may be answered.

        Args:
            request: As it came.
            patient: Wait for the caller's allowance instead of refusing.

        Raises:
            NotPermittedError: It may not.
            RateExceededError: Not now.
            CapacityExceededError: It would make too many links.
        """
        pushes = is_push(self.method)
        if self.caller is not None and self._rule.links is not Links.NONE:
            link_ids = named_links(self.method, request)
            await self._judge_links(self.caller, link_ids)
            if pushes:
                await self._judge_push(self.caller, request, link_ids)
        if pushes:
            await self._gate.spend(self.key, pushed_samples(request), patient=patient)

    async def _judge_links(self, caller: Caller, link_ids: Sequence[str]) -> None:
        if self._rule.links is Links.OWNED:
            if not all(map(caller.owns, link_ids)):
                raise self.denied("link")
        elif not all(await self.sees(link_ids)):
            raise self.denied("link")

    async def _judge_push(self, caller: Caller, request: Any, link_ids: Sequence[str]) -> None:
        if Role.ADMIN in caller.roles:
            return
        if not pushed_nodes(request) <= {"", caller.name}:
            raise self.denied("node")
        if self._gate.link_bound is not None:
            await self._gate.link_bound.admit(caller, link_ids, pushed_regions(request))

    async def sees(self, link_ids: Sequence[str]) -> list[bool]:
        """Which links the caller may read. Raises `StoreUnavailableError` when it takes the store to tell."""
        caller = self.caller
        if caller is None or caller.reads_everything:
            return [True] * len(link_ids)
        seen = list(map(caller.reads_by_id, link_ids))
        unsure = [link_id for link_id, known in zip(link_ids, seen, strict=True) if not known]
        if unsure and caller.readable_regions and self._gate.regions is not None:
            regions = iter(await self._gate.regions.of(unsure))
            seen = [known or next(regions) in caller.readable_regions for known in seen]
        return seen

    def denied(self, reason: str) -> Exception:
        """What to raise when the caller may not; counted and logged."""
        return self._gate.denied(self, "expired" if self.caller is _NOBODY else reason)


CURRENT: ContextVar[Visit | None] = ContextVar("CURRENT", default=None)
"""The call that is being answered; None where there is no gate."""


class Gate:
    """Lets calls in. One for a server."""

    def __init__(
        self,
        authenticator: Authenticator | None,
        metrics: AccessMetrics,
        *,
        allowance: Allowance | None = None,
        regions: RegionsOf | None = None,
        link_bound: LinkBound | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """A gate.

        Args:
            authenticator: Identifies callers; None: all may do everything, within the allowance.
            metrics: Told of denials.
            allowance: What each caller may ask for.
            regions: Says in which region links are.
            link_bound: Bounds the links of each caller.
            clock: Monotonic seconds.
            now_s: Seconds since the epoch.
        """
        allowance = allowance or Allowance()
        self.regions = regions
        self.link_bound = link_bound
        self._authenticator = authenticator
        self._metrics = metrics
        self._now_s = now_s
        self._calls = Rate(allowance.calls_per_s, clock) if allowance.calls_per_s else None
        self._samples = Rate(allowance.samples_per_s, clock) if allowance.samples_per_s else None
        self._streams = Places(allowance.streams) if allowance.streams else None
        self._lines = Rate(_LOGGED_PER_S, clock, 1)
        self._unlogged = 0
        self._open: set[Visit] = set()

    def is_open(self, method: str) -> bool:
        """Whether anyone may call a method."""
        return not rule_of(method).roles

    @asynccontextmanager
    async def visit(self, method: str, context: Any, *, streaming: bool) -> AsyncIterator[Visit]:
        """Lets a call in, for as long as its caller may stay.

        Raises:
            NotAuthenticatedError: Nobody knows who calls, or not any more.
            NotPermittedError: Whoever calls may not call this.
            RateExceededError: It calls too much.
        """
        visit = Visit(self, method, context.peer())
        if self._authenticator is not None:
            visit.credential = _credential(context)
            self._identify(visit)
        self._spend_call(visit.key)
        token = CURRENT.set(visit)
        try:
            if streaming:
                async with self._staying(visit):
                    yield visit
            else:
                yield visit
        finally:
            CURRENT.reset(token)

    def recheck(self) -> None:
        """Asks again who those with open streams are, and ends the streams of those who may not have them any more."""
        for visit in self._open:
            if visit.limit is None or visit.limit.expired() or self._authenticator is None:
                continue  # one whose time is over is ending, which may take a while, and nothing changes that
            try:
                self._identify(visit)
            except (NotAuthenticatedError, NotPermittedError):
                visit.caller = _NOBODY  # what has come already is looked at before the stream is woken to end
                visit.limit.reschedule(asyncio.get_running_loop().time())
            else:
                visit.limit.reschedule(self._until(visit))

    async def spend(self, key: str, samples: int, *, patient: bool) -> None:
        """Takes samples from a caller's allowance. Raises `RateExceededError` unless it is to wait for it."""
        rate = self._samples
        while rate is not None and (wait_s := rate.take(key, samples)):
            if not patient:
                self._metrics.limited("samples")
                raise RateExceededError("samples per second", limit=rate.per_s, retry_after_s=wait_s)
            await asyncio.sleep(wait_s)

    def denied(self, visit: Visit, reason: str, why: str = "") -> NotPermittedError | NotAuthenticatedError:
        """What to raise for a denial, once it is counted and logged."""
        self._metrics.denied(reason)
        if self._lines.take(""):
            self._unlogged += 1
        else:
            _log.warning(
                "denied",
                method=visit.method,
                reason=reason,
                why=why or None,
                caller=visit.caller.name if visit.caller else None,
                peer=visit.key if visit.caller is None else None,
                unlogged_before=self._unlogged,
            )
            self._unlogged = 0
        return NotAuthenticatedError() if reason in {"identity", "expired"} else NotPermittedError()

    def _identify(self, visit: Visit) -> None:
        """Finds out who calls and whether they may call this at all. Raises what `visit` raises."""
        assert self._authenticator is not None  # noqa: S101 - for the type checker: callers have looked
        known, visit.caller = visit.caller, None
        try:
            visit.caller = self._authenticator.identify(visit.credential)
        except UnidentifiedError as error:
            raise self.denied(visit, "expired" if known else "identity", str(error)) from None
        visit.key = visit.caller.name
        if not rule_of(visit.method).roles & visit.caller.roles:
            raise self.denied(visit, "role")

    def _spend_call(self, key: str) -> None:
        rate = self._calls
        if rate is not None and (wait_s := rate.take(key)):
            self._metrics.limited("calls")
            raise RateExceededError("calls per second", limit=rate.per_s, retry_after_s=wait_s)

    @asynccontextmanager
    async def _staying(self, visit: Visit) -> AsyncIterator[None]:
        """A stream, until its caller's proof ends. Raises `NotAuthenticatedError` then."""
        key, places = visit.key, self._streams
        if places is not None and not places.enter(key):
            self._metrics.limited("streams")
            raise RateExceededError("open streams", limit=places.most, retry_after_s=_STREAM_RETRY_S)
        try:
            async with asyncio.timeout_at(self._until(visit)) as visit.limit:
                self._open.add(visit)
                yield
        except TimeoutError:
            if visit.limit is None or not visit.limit.expired():
                raise
            raise self.denied(visit, "expired") from None
        finally:
            self._open.discard(visit)
            if places is not None:
                places.leave(key)

    def _until(self, visit: Visit) -> float | None:
        """Until when a stream may last, on the loop's clock."""
        if visit.caller is None or visit.caller.expires_at_s is None:
            return None
        return asyncio.get_running_loop().time() + max(visit.caller.expires_at_s - self._now_s(), 0.0)


def _credential(context: Any) -> Credential:
    """What a call shows: the token of its metadata, and the names in its connection's certificate."""
    token = None
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
            token = value[len(_BEARER) :].strip()
    proven = context.auth_context()
    # a certificate with alternative names means these; its common name is for people then (RFC 9525)
    names = proven.get("x509_subject_alternative_name") or proven.get("x509_common_name") or ()
    return Credential(token, tuple(name.decode(errors="replace") for name in names))
