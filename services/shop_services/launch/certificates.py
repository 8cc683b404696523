"""Certificates for development: an authority of one's own, and what every service, server and operator shows.

Real certificates come from cert-manager, Vault or the like, in files of the same names. These can be renewed as often
as one likes: each time all get new keys and certificates of the same authority, which those who run take up.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shop_services.launch.commands import SERVICES
from shop_services.launch.errors import LaunchError
from shop_services.runtime.tls import OPERATOR, host_name

NAMES = (*SERVICES, "notification", "etcd", "nats", "postgres", "valkey", "mail", OPERATOR)
"""Whose certificates are made."""

DAYS = 90
"""How long they are good, as Let's Encrypt's are."""
_AUTHORITY_DAYS = 3650
_CLOCKS_DIFFER = datetime.timedelta(minutes=5)
_EVERYWHERE = ("localhost", "127.0.0.1", "::1")
_CA = "ca"


def make_certificates(
    directory: Path,
    names: Iterable[str] = NAMES,
    *,
    now: datetime.datetime,
    days: int = DAYS,
    hosts: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Put `NAME.pem` and `NAME.key` for each of `names` into `directory`, in the place of older ones, and `ca.pem`.

    They are for `NAME.shop.internal`, `NAME`, the loopback, and the host names and addresses that `hosts` has for NAME.
    The authority's key is in `ca.key`: whoever has it can be anybody. It is made where there is none.

    Raises:
        LaunchError: there is `ca.pem` without `ca.key` or the other way round, or they have expired or do not fit.
        OSError: the directory cannot be made, read or written.
        ValueError: what is there is no certificate, or no key.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _Authority.of(directory, now)
    for name in names:
        more = () if hosts is None else hosts.get(name, ())
        key, certificate = authority.issue(name, more, now, datetime.timedelta(days=days))
        # One right after the other. Who reads in between sees that they do not fit, and reads again.
        written = [(_written(directory, key), f"{name}.key"), (_written(directory, certificate), f"{name}.pem")]
        for path, final in written:
            path.replace(directory / final)


class _Authority:
    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def of(cls, directory: Path, now: datetime.datetime) -> _Authority:
        """The authority of the directory, made if there is none."""
        certificate, key = directory / f"{_CA}.pem", directory / f"{_CA}.key"
        if not certificate.exists() and not key.exists():
            return cls._made(certificate, key, now)
        for path in (certificate, key):
            if not path.exists():
                raise LaunchError(f"{directory} has an authority, but no {path.name}: nothing can be issued there")
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        public = x509.load_pem_x509_certificate(certificate.read_bytes())
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public.public_key():
            raise LaunchError(f"{certificate} and {key} do not belong together")
        if public.not_valid_after_utc <= now:
            raise LaunchError(f"the authority {certificate} has expired: remove {certificate.name} and {key.name}")
        return cls(private, public)

    @classmethod
    def _made(cls, certificate: Path, key: Path, now: datetime.datetime) -> _Authority:
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop development authority")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        signed = (
            _builder(name, private.public_key(), now, now + datetime.timedelta(days=_AUTHORITY_DAYS))
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(private, hashes.SHA256())
        )
        _written(key.parent, _private(private)).replace(key)
        _written(certificate.parent, signed.public_bytes(serialization.Encoding.PEM)).replace(certificate)
        return cls(private, signed)

    def issue(
        self, name: str, hosts: Iterable[str], now: datetime.datetime, good_for: datetime.timedelta
    ) -> tuple[bytes, bytes]:
        """A new key and its certificate, which ends no later than the authority's."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = min(now + good_for, self._certificate.not_valid_after_utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_name(name))])
        alternatives = [_general(host) for host in dict.fromkeys((host_name(name), name, *_EVERYWHERE, *hosts))]
        # Both: each of them calls others, and etcd calls itself.
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(subject, key.public_key(), now, until)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _private(key), certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, key: CertificatePublicKeyTypes, now: datetime.datetime, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _written(directory: Path, content: bytes) -> Path:
    """A new file, which nobody but its owner may read, to be renamed to where it belongs."""
    descriptor, path = tempfile.mkstemp(dir=directory, prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return Path(path)
