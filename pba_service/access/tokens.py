"""Signed tokens: JSON Web Tokens, proven with the public keys of a JWKS file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pba_service.access.callers import caller_of
from pba_service.access.watched import FileRefusedError, read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pba_service.access.callers import Caller

CLAIMS = {"roles": "pba_roles", "links": "pba_links", "reads": "pba_reads", "regions": "pba_regions"}
"""Names in a token of what `callers.caller_of` reads."""

LEEWAY_S = 30.0
"""How far the clocks of issuer and service may be apart."""

MAX_TOKEN_BYTES = 8_192
MIN_RSA_BITS = 2_048
_REQUIRED = ["exp", "iss", "aud", "sub"]


class TokenRefusedError(Exception):
    """A token proves nothing; the text is for the log and repeats nothing of the token."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key and the only algorithm that it is for: a token's own header has no say in that."""

    algorithm: str
    key: Any


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Proves tokens of one issuer for one audience.

    Attributes:
        keys: By key id.
        issuer: The `iss` that a token must have.
        audience: One of the `aud` that it must have.
        now_s: Seconds since the epoch.
    """

    keys: Mapping[str, PublicKey]
    issuer: str
    audience: str
    now_s: Callable[[], float] = time.time

    def caller(self, token: str) -> Caller:
        """Whose token it is. Raises `TokenRefusedError`."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefusedError("longer than a token may be")
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                # times are checked below, against a clock that tests can move
                options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.PyJWTError as error:
            raise TokenRefusedError(type(error).__name__) from None
        except (ValueError, TypeError, RecursionError) as error:  # of what hostile tokens make JSON and base64 raise
            raise TokenRefusedError(type(error).__name__) from None
        expires_at_s = self._check_times(claims) + LEEWAY_S
        try:
            return caller_of(
                claims["sub"], {ours: claims[name] for ours, name in CLAIMS.items() if name in claims}, expires_at_s
            )
        except ValueError as fault:
            raise TokenRefusedError(f"claims: {str(fault).partition(chr(39))[0]}") from None

    def _key(self, key_id: object) -> PublicKey:
        if key_id is None and len(self.keys) == 1:
            return next(iter(self.keys.values()))
        key = self.keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise TokenRefusedError("signed with no key of the JWKS file")
        return key

    def _check_times(self, claims: dict[str, Any]) -> float:
        now_s = self.now_s()
        times: dict[str, float] = {}
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name, now_s)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:  # noqa: PLR2004 - some 30,000 years
                raise TokenRefusedError(f"{name} is no time")
            times[name] = float(value)
        if times["exp"] + LEEWAY_S <= now_s:
            raise TokenRefusedError("expired")
        if max(times["nbf"], times["iat"]) - LEEWAY_S > now_s:
            raise TokenRefusedError("not valid yet")
        return times["exp"]


def read_verifier(path: Path, issuer: str, audience: str, now_s: Callable[[], float] = time.time) -> TokenVerifier:
    """Reads a JWKS file (RFC 7517). Raises `FileRefusedError`."""
    content = read_bytes(path)
    try:
        entries = json.loads(content)["keys"]
        keys = dict(_key(entry) for entry in entries if entry.get("use", "sig") == "sig")
    except FileRefusedError as fault:
        raise FileRefusedError(f"{path}: {fault}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, jwt.PyJWTError):
        raise FileRefusedError(f"{path}: is no JSON Web Key Set") from None
    if not keys:
        raise FileRefusedError(f"{path}: has no key for signatures")
    return TokenVerifier(keys, issuer, audience, now_s)


def _key(entry: dict[str, Any]) -> tuple[str, PublicKey]:
    kind = entry.get("kty")
    if kind == "oct" or "d" in entry:
        raise FileRefusedError("has a secret key; only public keys belong here")
    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(str(kind))
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        raise FileRefusedError("has a key that is for none of RS256, ES256 and EdDSA")
    key = jwt.PyJWK.from_dict(entry, algorithm).key
    strong = (
        (isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS)
        or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1))
        or isinstance(key, ed25519.Ed25519PublicKey)
    )
    if not strong:
        raise FileRefusedError(f"has a key that is no RSA of {MIN_RSA_BITS} bits or more, P-256 or Ed25519")
    return str(entry.get("kid", "")), PublicKey(algorithm, key)
