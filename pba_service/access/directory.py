"""The callers' file: who is known by a secret token or by a certificate, and what they are given."""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pba_service.access.callers import caller_of
from pba_service.access.watched import FileRefusedError, read_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pba_service.access.callers import Caller

MAX_CALLERS = 10_000
_KEYS = {"name", "roles", "links", "reads", "regions", "token_sha256", "certificate"}
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Directory:
    """The file's content.

    Attributes:
        tokens: SHA-256 of each token, and whose it is.
        certificates: Names in certificates, and whose they are.
        patterns: Patterns of names such as `*.nodes.example`, and what a caller with such a name is given.
    """

    tokens: tuple[tuple[bytes, Caller], ...] = ()
    certificates: tuple[tuple[str, Caller], ...] = ()
    patterns: tuple[tuple[str, dict[str, Any]], ...] = ()

    def by_token(self, token: str) -> Caller | None:
        """Whose token it is. Looks at all of them, so that the time tells nothing of how near one came."""
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for known, caller in self.tokens:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def by_certificate(self, names: Sequence[str]) -> Caller | None:
        """Whose certificate it is, by the names in it; a whole name counts before a pattern."""
        for name in names:
            for known, caller in self.certificates:
                if known == name:
                    return caller
        for name in names:
            for pattern, row in self.patterns:
                if _matches(name, pattern):
                    try:
                        return caller_of(name, row)
                    except ValueError:  # a certificate may have a name that no caller may have
                        return None
        return None


def _matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern, whose star stands for one label: neither a dot nor a slash, nor nothing."""
    head, _, tail = pattern.partition("*")
    label = name[len(head) : len(name) - len(tail)]
    return bool(label) and name == f"{head}{label}{tail}" and not set("./") & set(label)


def read_directory(path: Path) -> Directory:
    """Reads a callers' file. Raises `FileRefusedError`."""
    content = read_bytes(path, secret=True)
    try:
        rows = tomllib.loads(content.decode()).get("caller", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # their texts repeat parts of the file
        raise FileRefusedError(f"{path}: is no TOML in UTF-8") from None
    if not isinstance(rows, list) or not rows or len(rows) > MAX_CALLERS:
        raise FileRefusedError(f"{path}: has no [[caller]] or more than {MAX_CALLERS}")
    tokens: list[tuple[bytes, Caller]] = []
    certificates: list[tuple[str, Caller]] = []
    patterns: list[tuple[str, dict[str, Any]]] = []
    for number, row in enumerate(rows, start=1):
        try:
            _read(row, tokens, certificates, patterns)
        except ValueError as fault:
            raise FileRefusedError(f"{path}: [[caller]] number {number}: {fault}") from None
    for what, seen in (("token", [key for key, _ in tokens]), ("certificate", [key for key, _ in certificates])):
        if len(set(seen)) < len(seen):
            raise FileRefusedError(f"{path}: two callers have the same {what}")
    return Directory(tuple(tokens), tuple(certificates), tuple(patterns))


def _read(
    row: object,
    tokens: list[tuple[bytes, Caller]],
    certificates: list[tuple[str, Caller]],
    patterns: list[tuple[str, dict[str, Any]]],
) -> None:
    """Adds a row to where it belongs. Raises `ValueError`, whose text repeats no secret."""
    if not isinstance(row, dict) or not row.keys() <= _KEYS:
        raise ValueError(f"may have only {', '.join(sorted(_KEYS))}")
    token, certificate = row.get("token_sha256"), row.get("certificate")
    if (token is None) == (certificate is None):
        raise ValueError("needs either token_sha256 or certificate")
    if certificate is not None and (not isinstance(certificate, str) or not certificate or certificate.count("*") > 1):
        raise ValueError("certificate is a name, or a pattern with one *")
    if certificate is not None and "*" in certificate:
        if "name" in row or "links" in row:
            raise ValueError("with a pattern every caller is named by its certificate and has the links <name>/*")
        caller_of("any", row)  # its fault now rather than at the first call
        patterns.append((certificate, row))
        return
    caller = caller_of(row.get("name", certificate), row)
    if not caller.roles:
        raise ValueError("needs roles: node, subscriber or admin")
    if certificate is not None:
        certificates.append((certificate, caller))
    elif isinstance(token, str) and _HEX.fullmatch(token):
        tokens.append((bytes.fromhex(token), caller))
    else:
        raise ValueError("token_sha256 is 64 hexadecimal digits in lower case; `pba token` makes a token and its hash")
