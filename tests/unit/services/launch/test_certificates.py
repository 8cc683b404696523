"""Certificates for development."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from shop_services.launch.certificates import NAMES, make_certificates
from shop_services.launch.errors import LaunchError
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import tls_files

NOW = datetime(2026, 11, 23, 7, tzinfo=UTC)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names_in(path: Path) -> list[str]:
    alternatives = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    return [*alternatives.get_values_for_type(x509.DNSName), *addresses]


def test_everybody_has_what_settings_look_for(tmp_path: Path) -> None:
    """Each service, server and the operator gets a certificate and its key, as `tls_files` finds and checks them."""
    make_certificates(tmp_path / "tls", now=datetime.now(UTC))
    for name in NAMES:
        assert tls_files(Settings(registry_url="memory://", nats_url="memory://", tls_dir=tmp_path / "tls"), name)


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    """The directory and the files are closed to everybody else, and nothing else is left in it."""
    directory = tmp_path / "tls"
    make_certificates(directory, ["user"], now=NOW)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name for path in directory.iterdir()} == {"ca.pem", "ca.key", "user.pem", "user.key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_they_are_for_the_names_that_are_dialled(tmp_path: Path) -> None:
    """Who somebody is comes first; the loopback and what was asked for follow."""
    make_certificates(tmp_path, ["user", "gateway"], now=NOW, hosts={"gateway": ["shop.example", "192.0.2.1"]})
    everywhere = ["localhost", "127.0.0.1", "::1"]
    assert sorted(names_in(tmp_path / "user.pem")) == sorted(["user.shop.internal", "user", *everywhere])
    more = ["gateway.shop.internal", "gateway", "shop.example", "192.0.2.1"]
    assert sorted(names_in(tmp_path / "gateway.pem")) == sorted([*more, *everywhere])


def test_a_renewal_keeps_the_authority(tmp_path: Path) -> None:
    """What is made again has new keys, of the same authority, and is good from then on."""
    make_certificates(tmp_path, ["user"], now=NOW, days=10)
    authority, key = (tmp_path / "ca.pem").read_bytes(), (tmp_path / "user.key").read_bytes()
    make_certificates(tmp_path, ["user"], now=NOW + timedelta(days=9), days=10)
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert (tmp_path / "user.key").read_bytes() != key
    renewed = certificate(tmp_path / "user.pem")
    assert renewed.not_valid_after_utc == NOW + timedelta(days=19)
    renewed.verify_directly_issued_by(certificate(tmp_path / "ca.pem"))


def test_none_outlives_its_authority(tmp_path: Path) -> None:
    """A certificate that would be good for longer than the authority's ends with it."""
    make_certificates(tmp_path, ["user"], now=NOW)
    end = certificate(tmp_path / "ca.pem").not_valid_after_utc
    make_certificates(tmp_path, ["user"], now=end - timedelta(days=1), days=10)
    assert certificate(tmp_path / "user.pem").not_valid_after_utc == end


def test_an_authority_that_cannot_issue_is_refused(tmp_path: Path) -> None:
    """Half of an authority, one that does not fit, and one that has expired are refused, and nothing is replaced."""
    make_certificates(tmp_path, ["user"], now=NOW)
    before = (tmp_path / "user.pem").read_bytes()
    with pytest.raises(LaunchError, match="has expired"):
        make_certificates(tmp_path, ["user"], now=NOW + timedelta(days=4000))
    make_certificates(tmp_path / "other", ["user"], now=NOW)
    key = (tmp_path / "ca.key").read_bytes()
    (tmp_path / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(LaunchError, match="do not belong together"):
        make_certificates(tmp_path, ["user"], now=NOW)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(LaunchError, match=r"no ca\.key"):
        make_certificates(tmp_path, ["user"], now=NOW)
    (tmp_path / "ca.key").write_bytes(key)
    assert (tmp_path / "user.pem").read_bytes() == before
