"""Certificates in files that are replaced."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from grpc_registry import InvalidTls, TlsFiles
from tests.authority import Authority, replace


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    cert, key = authority.issue("server")
    return TlsFiles(authority.ca, cert, key)


def test_what_is_read_is_what_is_in_the_files(files: TlsFiles) -> None:
    """The material holds the bytes of the three files, and shows none of them."""
    material = files.read()
    assert (material.ca, material.cert, material.key) == tuple(
        Path(str(path)).read_bytes() for path in (files.ca, files.cert, files.key)
    )
    assert repr(material) == "TlsMaterial()"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": None}, "cert and key go together"),
        ({"ca": "/nowhere/ca.pem"}, "ca: cannot read '/nowhere/ca.pem': No such file"),
        ({"key": "/nowhere/tls.key"}, "key: cannot read '/nowhere/tls.key': No such file"),
        ({"ca": __file__}, "ca: '.*' is not a PEM file"),
    ],
)
def test_files_that_cannot_be_used_are_named_at_once(files: TlsFiles, change: dict[str, Any], message: str) -> None:
    """A missing file, a wrong one and half a pair are refused when the paths are given."""
    with pytest.raises(InvalidTls, match=message):
        TlsFiles(**{"ca": files.ca, "cert": files.cert, "key": files.key, **change})


def test_contents_that_cannot_be_used_are_named_at_once(authority: Authority, files: TlsFiles) -> None:
    """A key of another certificate, and a private key in place of an authority, are refused."""
    _, other = authority.issue("other")
    with pytest.raises(InvalidTls, match=r"cert '.*server.pem' and key '.*other.key' do not fit"):
        TlsFiles(authority.ca, files.cert, other)
    with pytest.raises(InvalidTls, match=r"ca: '.*other.key' has no usable certificate"):
        TlsFiles(other)


def test_a_server_without_its_files_is_refused(authority: Authority, files: TlsFiles) -> None:
    """A server needs a certificate, and an authority if it asks clients for theirs."""
    with pytest.raises(InvalidTls, match="a server needs cert and key"):
        TlsFiles(authority.ca).server_credentials()
    with pytest.raises(InvalidTls, match="needs ca"):
        TlsFiles(cert=files.cert, key=files.key).server_credentials()
    TlsFiles(cert=files.cert, key=files.key).server_credentials(require_client_cert=False)


def test_the_same_material_until_the_files_hold_another(authority: Authority, files: TlsFiles) -> None:
    """A follower gives one object, also after a file was touched, until certificate and key were both replaced."""
    follower = files.follow()
    first = follower.current()
    assert follower.current() is first
    os.utime(authority.ca)
    assert follower.current() is first
    authority.issue("server")
    second = follower.current()
    assert second is not first
    assert second == files.read()


def test_half_a_rotation_keeps_the_last_good_and_is_said_once(
    authority: Authority, files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    """While the key does not fit, or a file is away, the last material stays, with one warning, until all fits."""
    caplog.set_level(logging.WARNING)
    follower = files.follow()
    first = follower.current()
    key = Path(str(files.key))
    old = key.read_bytes()
    authority.issue("server")
    new = key.read_bytes()
    replace(key, old)
    assert follower.current() is first
    key.unlink()
    assert follower.current() is first
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "certificates unusable, keeping the last that were good"
    ]
    replace(key, new)
    assert follower.current().key == new
    key.unlink()
    assert follower.current().key == new
    assert len(caplog.records) == 2


def test_a_link_that_is_turned_is_a_change(authority: Authority, tmp_path: Path) -> None:
    """Kubernetes replaces a mounted secret by turning a link to a folder; that is noticed."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        cert, key = authority.issue("server")
        cert.rename(tmp_path / name / "tls.crt")
        key.rename(tmp_path / name / "tls.key")
    data = tmp_path / "..data"
    data.symlink_to("one")
    follower = TlsFiles(cert=data / "tls.crt", key=data / "tls.key").follow()
    turned = tmp_path / "..data_tmp"
    turned.symlink_to("two")
    turned.replace(data)
    assert follower.current().key == (tmp_path / "two" / "tls.key").read_bytes()


def test_the_name_of_the_server_is_an_option_of_the_channel(files: TlsFiles) -> None:
    """Only who expects another name than it dials needs an option."""
    assert files.channel_options() == []
    assert TlsFiles(server_name="etcd.internal").channel_options() == [
        ("grpc.ssl_target_name_override", "etcd.internal")
    ]
