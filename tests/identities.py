"""Authorities, certificates and signed tokens, made anew for a test."""

import ipaddress
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

ISSUER, AUDIENCE = "https://issuer.example", "pba"


def _pem_key(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder, stem="own"):
        """Writes them, not readable by everybody; the paths of certificate and key."""
        paths = folder / f"{stem}.crt", folder / f"{stem}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
            path.chmod(0o600)
        return paths


class Authority:
    """Signs certificates."""

    def __init__(self, name="test authority"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = self._sign(self._key.public_key(), self._name, 30, [], ca=True)

    def write(self, folder, stem="ca"):
        path = folder / f"{stem}.crt"
        path.write_bytes(self.certificate)
        return path

    def pair(self, common_name="localhost", dns=(), uris=(), ips=("127.0.0.1",), days=1):
        """A certificate; `days` may be negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name) for name in dns]
        names += [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        return Pair(self._sign(key.public_key(), _name(common_name), days, names), _pem_key(key))

    def _sign(self, public_key, subject, days, names, *, ca=False):
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=10))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Issuer:
    """Signs tokens with one key of each kind."""

    def __init__(self):
        self.keys = {
            "RS256": rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }

    def jwk(self, algorithm):
        algorithms = jwt.algorithms.get_default_algorithms()
        entry = algorithms[algorithm].to_jwk(self.keys[algorithm].public_key(), as_dict=True)
        return {**entry, "kid": algorithm, "use": "sig", "alg": algorithm}

    def write(self, folder, algorithms=("RS256", "ES256", "EdDSA")):
        path = folder / "jwks.json"
        path.write_text(json.dumps({"keys": [self.jwk(algorithm) for algorithm in algorithms]}))
        return path

    def token(self, name="node-1", roles=("node",), algorithm="EdDSA", lasts_s=600.0, **claims):
        """A token; a claim of None is left out."""
        now = time.time()
        said = {
            "sub": name,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + lasts_s,
            "pba_roles": list(roles),
            **claims,
        }
        said = {key: value for key, value in said.items() if value is not None}
        return jwt.encode(said, self.keys[algorithm], algorithm, headers={"kid": algorithm})
