"""From what a caller shows to who it is."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from pba_service.access.tokens import TokenRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_service.access.callers import Caller
    from pba_service.access.directory import Directory
    from pba_service.access.tokens import TokenVerifier
    from pba_service.access.watched import Watched

MAX_REMEMBERED = 20_000
"""Proven credentials remembered: a signature takes longer to prove than many calls take to answer."""

_DOTS = 2  # of a JSON Web Token


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller shows.

    Attributes:
        token: After `Bearer`; None: none.
        names: Of its certificate, which the transport has proven; empty: none.
    """

    token: str | None = None
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the token."""
        return f"Credential(token={'none' if self.token is None else '***'}, names={self.names})"


class UnidentifiedError(Exception):
    """Nobody known; the text says why, for the log alone."""


class Authenticator:
    """Identifies callers by token or by certificate. A wrong token is not made up for by a certificate."""

    def __init__(
        self,
        *,
        directory: Watched[Directory] | None = None,
        verifier: Watched[TokenVerifier] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Identifies by what is given.

        Args:
            directory: The callers' file.
            verifier: Proves signed tokens.
            now_s: Seconds since the epoch.
        """
        self._directory = directory
        self._verifier = verifier
        self._now_s = now_s
        self._generation = self.generation
        self._remembered: OrderedDict[bytes, Caller] = OrderedDict()
        self._lock = Lock()  # metrics are asked for from threads

    @property
    def generation(self) -> int:
        """Grows whenever somebody may have become somebody else, or nobody."""
        return sum(one.generation for one in (self._directory, self._verifier) if one)

    def identify(self, credential: Credential) -> Caller:
        """Who shows a credential. Raises `UnidentifiedError`."""
        if credential.token is None:
            return self._by_certificate(credential.names)
        with self._lock:
            caller = self._by_token_remembered(credential.token)
        if caller.expires_at_s is not None and caller.expires_at_s <= self._now_s():
            raise UnidentifiedError("expired")
        return caller

    def _by_token_remembered(self, token: str) -> Caller:
        if self._generation != self.generation:
            self._generation = self.generation
            self._remembered.clear()
        key = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        caller = self._remembered.get(key)
        if caller is None:
            caller = self._by_token(token)
            self._remembered[key] = caller
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return caller

    def _by_token(self, token: str) -> Caller:
        if self._verifier is not None and token.count(".") == _DOTS:
            try:
                return self._verifier.value.caller(token)
            except TokenRefusedError as error:
                raise UnidentifiedError(f"token: {error}") from None
        caller = self._directory.value.by_token(token) if self._directory else None
        if caller is None:
            raise UnidentifiedError("token: not known")
        return caller

    def _by_certificate(self, names: tuple[str, ...]) -> Caller:
        if not names:
            raise UnidentifiedError("no token and no certificate")
        caller = self._directory.value.by_certificate(names) if self._directory else None
        if caller is None:
            raise UnidentifiedError("certificate: not known")
        return caller
