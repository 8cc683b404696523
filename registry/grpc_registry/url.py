"""Registry URLs: `etcd://`, `etcds://`, `memory://`, checked before anything is connected.

    etcd://[user:password@]host[:port][,host[:port]…][/prefix]
    etcds://…same…[?ca=FILE&cert=FILE&key=FILE&server_name=NAME]
    memory://[name]

Parsed by hand, since `urllib` knows one host per URL. A message names the part that is wrong, never a password: nothing
that stands left of the last `@` is ever quoted, and of a member only its host is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from grpc_registry.errors import InvalidInstance, InvalidTls, InvalidUrl
from grpc_registry.instance import check_name
from grpc_registry.tls import TlsFiles

DEFAULT_PORT = 2379  # etcd's client port, as IANA lists it
DEFAULT_PREFIX = "mesh"

_URL = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?P<rest>#.*)?")
_MEMBER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[^:]*))?")


@dataclass(frozen=True, slots=True)
class Login:
    """An etcd user; the password is never shown."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EtcdUrl:
    """Where etcd is and how to get in. `members` are `host:port`."""

    members: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    login: Login | None = None
    tls: TlsFiles | None = None

    def __str__(self) -> str:
        scheme = "etcd" if self.tls is None else "etcds"
        return f"{scheme}://{','.join(self.members)}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class MemoryUrl:
    """The name of a space in this process."""

    name: str

    def __str__(self) -> str:
        return f"memory://{self.name}"


def parse_url(url: str, *, prefix: str = DEFAULT_PREFIX) -> EtcdUrl | MemoryUrl:
    """The parts of `url`, checked; `prefix` counts where the URL has none. Certificate files are looked at here.

    Raises:
        InvalidUrl: the part that it names is wrong.
    """
    if not isinstance(url, str):  # its type alone is named: whatever it is, there may be a password in it
        raise InvalidUrl(f"must be text such as etcd://host:port, not {type(url).__name__}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix {prefix!r}: text, such as 'mesh' or 'eu/mesh'")
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidUrl("must look like etcd://host:port, etcds://host:port or memory://name")
    authority, path, query = match["authority"], match["path"] or "", match["query"]
    if match["scheme"] not in ("etcd", "etcds", "memory"):
        raise InvalidUrl(f"scheme {match['scheme']!r}: etcd, etcds or memory")
    if match["rest"] is not None or "@" in path + (query or ""):
        raise InvalidUrl("'/', '?', '#' and '@' in a user or a password must be percent-encoded")
    if match["scheme"] == "memory":
        return _memory(authority, path, query)
    userinfo, _, hosts = authority.rpartition("@")
    if query is not None and match["scheme"] == "etcd":
        raise InvalidUrl("only etcds:// takes parameters")
    return EtcdUrl(
        members=_members(hosts),
        prefix=_prefix(path.strip("/") or prefix),
        login=_login(userinfo) if "@" in authority else None,
        tls=_tls(query or "") if match["scheme"] == "etcds" else None,
    )


def _memory(name: str, path: str, query: str | None) -> MemoryUrl:
    if path.strip("/") or query is not None:
        raise InvalidUrl("memory:// takes a name and nothing else")
    if name and not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise InvalidUrl("the name after memory:// may have letters, digits, '_', '.' and '-'")
    return MemoryUrl(name)


def _members(hosts: str) -> tuple[str, ...]:
    members = []
    for number, text in enumerate(hosts.split(","), start=1):
        match = _MEMBER.fullmatch(text)
        if match is None:
            raise InvalidUrl(f"member {number} is not host:port")
        port = match["port"] if match["port"] is not None else str(DEFAULT_PORT)
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise InvalidUrl(f"the port of member {number} ({match['host']}) is not from 1 to 65535")
        members.append(f"{match['host']}:{int(port)}")
    if len(set(members)) < len(members):
        raise InvalidUrl("a member is named twice")
    return tuple(members)


def _prefix(text: str) -> str:
    try:
        return "/".join(check_name(segment, "segment") for segment in text.split("/"))
    except InvalidInstance as error:
        raise InvalidUrl(f"prefix {text!r}: {error}") from None


def _login(userinfo: str) -> Login:
    user, colon, password = (unquote(part) for part in userinfo.partition(":"))
    if not user or not colon or not password:
        raise InvalidUrl("what stands before '@' must be user:password")
    return Login(user, password)


def _tls(query: str) -> TlsFiles:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise InvalidUrl("parameters must look like name=value&name=value") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidUrl("a parameter is given twice")
    if unknown := values.keys() - {"ca", "cert", "key", "server_name"}:
        raise InvalidUrl(f"unknown parameter {min(unknown)!r}: ca, cert, key or server_name")
    try:
        return TlsFiles(**values)
    except InvalidTls as error:
        raise InvalidUrl(f"{error}") from None
