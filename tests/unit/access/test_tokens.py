"""Signed tokens: what is taken, and every way known to forge one."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pba_service.access.callers import Role
from pba_service.access.tokens import LEEWAY_S, TokenRefusedError, read_verifier
from pba_service.access.watched import FileRefusedError
from tests.identities import AUDIENCE, ISSUER, Issuer


@pytest.fixture(scope="module")
def issuer():
    return Issuer()


@pytest.fixture
def verifier(issuer, tmp_path):
    return read_verifier(issuer.write(tmp_path), ISSUER, AUDIENCE)


def refused(verifier, token):
    with pytest.raises(TokenRefusedError) as caught:
        verifier.caller(token)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_each_algorithm_says_who_its_owner_is(issuer, verifier, algorithm):
    caller = verifier.caller(
        issuer.token("fra-1", ["node", "subscriber"], algorithm, pba_reads=["eu/*"], pba_regions=["us"])
    )
    assert caller.name == "fra-1"
    assert caller.roles == {Role.NODE, Role.SUBSCRIBER}
    assert caller.owns("fra-1/x")
    assert caller.reads_by_id("eu/1")
    assert caller.readable_regions == {"us"}
    assert caller.expires_at_s == pytest.approx(time.time() + 600 + LEEWAY_S, abs=5)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1_000.0},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 1e300},
        {"nbf": time.time() + 1_000},
        {"iat": time.time() + 1_000},
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"sub": None},
        {"sub": "a*"},
        {"pba_roles": "admin"},
        {"pba_links": ["*x"]},
    ],
)
def test_a_claim_that_is_wrong_or_missing(issuer, verifier, claims):
    refused(verifier, issuer.token(**claims))


def test_clocks_may_differ_a_little(issuer, verifier):
    assert verifier.caller(issuer.token(lasts_s=-LEEWAY_S / 2)).name == "node-1"
    refused(verifier, issuer.token(lasts_s=-LEEWAY_S - 1))


def _encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _claims(token):
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize("none", ["none", "None", "NONE", ""])
def test_no_signature_is_none(issuer, verifier, none):
    claims = _claims(issuer.token(roles=["admin"]))
    for key_id in ("RS256", "EdDSA"):
        refused(verifier, f"{_encoded({'alg': none, 'kid': key_id})}.{_encoded(claims)}.")


@pytest.mark.parametrize("shape", [serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1])
def test_a_public_key_is_no_shared_secret(issuer, verifier, shape):
    """The classic: HS256 with the public key's text as the secret."""
    secret = issuer.keys["RS256"].public_key().public_bytes(serialization.Encoding.PEM, shape)
    head = f"{_encoded({'alg': 'HS256', 'kid': 'RS256'})}.{_encoded(_claims(issuer.token(roles=['admin'])))}"
    signature = base64.urlsafe_b64encode(hmac.new(secret, head.encode(), hashlib.sha256).digest()).rstrip(b"=")
    refused(verifier, f"{head}.{signature.decode()}")


def test_the_algorithm_is_the_keys_and_not_the_tokens(issuer, verifier):
    for algorithm, key_id in (("RS256", "EdDSA"), ("ES256", "RS256"), ("RS512", "RS256"), ("PS256", "RS256")):
        key = issuer.keys["RS256" if algorithm[1] == "S" and algorithm[0] != "E" else "ES256"]
        token = jwt.encode(_claims(issuer.token()), key, algorithm, headers={"kid": key_id})
        refused(verifier, token)


def test_a_key_of_the_token_itself_counts_for_nothing(verifier):
    own = Issuer()
    headers = {"kid": "RS256", "jwk": own.jwk("RS256")}
    refused(verifier, jwt.encode(_claims(own.token(roles=["admin"])), own.keys["RS256"], "RS256", headers))
    refused(verifier, own.token(roles=["admin"]))


def test_a_token_that_was_changed(issuer, verifier):
    head, _, signature = issuer.token().split(".")
    refused(verifier, f"{head}.{_encoded({**_claims(issuer.token()), 'pba_roles': ['admin']})}.{signature}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "a.b.c",
        "é.é.é",
        "." * 9_000,
        "x" * 9_000,
        f"{_encoded({'alg': 'RS256', 'kid': ['RS256']})}.e30.x",
        f"{_encoded({'alg': 'RS256', 'kid': None})}.e30.x",
        "e30." + "W" * 4_000 + ".x",
        "W1tbW1tb.e30.x",
    ],
)
def test_what_is_no_token(verifier, text):
    assert text not in refused(verifier, text) or len(text) < 3


def test_the_reason_repeats_nothing_of_the_token(issuer, verifier):
    token = issuer.token(sub="secret*name")
    assert "secret" not in refused(verifier, token)


@pytest.mark.parametrize(
    "change", [{"kty": "oct", "k": "c2VjcmV0"}, {"d": "abc"}, {"alg": "HS256"}, {"kty": "DSA"}, {"n": "!"}]
)
def test_a_key_set_with_a_key_that_must_not_be_there(issuer, tmp_path, change):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**issuer.jwk("RS256"), **change}]}))
    with pytest.raises(FileRefusedError):
        read_verifier(path, ISSUER, AUDIENCE)


def test_a_weak_key_is_refused(tmp_path):
    weak = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505 - that is the point
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwt.algorithms.RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True)]}))
    with pytest.raises(FileRefusedError, match="2048"):
        read_verifier(path, ISSUER, AUDIENCE)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 5}', '{"keys": []}', '{"keys": [5]}', "\xff", "[" * 99_999])
def test_what_is_no_key_set(tmp_path, text):
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(FileRefusedError):
        read_verifier(path, ISSUER, AUDIENCE)
