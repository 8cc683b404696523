"""All members as one: asks the current one, goes on to the next when it does not answer, keeps a token where needed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from grpc_registry.backoff import Backoff, keep_doing
from grpc_registry.errors import RegistryClosed, RegistryError, RegistryRefused, RegistryUnavailable
from grpc_registry.etcd import v3
from grpc_registry.etcd.failures import StaleToken
from grpc_registry.etcd.member import RENEW_SECONDS, Member, Metadata, Stream
from grpc_registry.etcd.reachability import Reachability
from grpc_registry.etcd.v3 import Rpc
from grpc_registry.url import EtcdUrl, Login
from grpc_registry.waiting import stop

_T = TypeVar("_T")

ATTEMPT_SECONDS = 2.0  # for one answer of one member: etcd answers in milliseconds, an election takes a second

# A member cut off from its peers refuses then, instead of staying silent.
_HAS_LEADER: Metadata = (("hasleader", "true"),)


class Connection:
    """A connection to an etcd cluster. Nothing is opened before the first call."""

    def __init__(self, url: EtcdUrl, rng: Random) -> None:
        self._tls = None if url.tls is None else url.tls.follow()
        self._members = [Member(address, self._tls) for address in url.members]
        rng.shuffle(self._members)  # or all clients would crowd on the member that is named first
        self._tokens = Tokens(url.login)
        self._current = 0
        self._rng = rng
        self._closed = False
        self._renewals: asyncio.Task[None] | None = None
        self._reachability = Reachability(str(url), lambda: asyncio.get_running_loop().time())

    @property
    def state(self) -> str:
        """Whether it was connected and is reachable, for a person."""
        return self._reachability.state

    async def call(self, rpc: Rpc, request: Any, *, attempt_timeout: float = ATTEMPT_SECONDS) -> Any:
        """The answer of the first member that answers, each asked once for at most `attempt_timeout` seconds.

        Raises:
            RegistryUnavailable: no member answered.
            RegistryRefused, LeaseGone, Compacted: a member answered that.
            RegistryClosed: after `close`.
        """
        reasons = []
        for _ in self._members:
            member = self._member()
            try:
                answer = await self._ask(member, rpc, request, attempt_timeout)
            except RegistryUnavailable as error:
                self._leave(member)
                reasons.append(str(error))
                continue
            except RegistryRefused as error:
                self._reachability.refused(str(error))
                raise
            except RegistryError:
                self._reachability.answered()
                raise
            self._reachability.answered()
            return answer
        reason = "; ".join(reasons)
        self._reachability.failed(reason)
        raise RegistryUnavailable(reason)

    @contextlib.asynccontextmanager
    async def stream(self, rpc: Rpc) -> AsyncGenerator[Stream, None]:
        """A stream to the current member. A failure inside makes the next call or stream go to the next member.

        Raises `RegistryUnavailable` where even the token could not be had, `RegistryRefused`, `RegistryClosed`.
        """
        member = self._member()
        try:
            token = await self._tokens.current(member)
            stream = member.open(rpc, _metadata(token))
            try:
                yield stream
            except StaleToken:
                self._tokens.forget(token)
                raise
            finally:
                stream.close()
        except RegistryUnavailable:
            self._leave(member)
            raise

    async def patiently(self, operation: Callable[[], Awaitable[_T]], timeout: float) -> _T:
        """Await `operation()`, again and again while no member answers, for at most `timeout` seconds.

        Raises `RegistryUnavailable` when the time is over; everything else as `operation` raises it.
        """
        reason = f"no answer within {timeout:g} s"
        pauses = Backoff(self._rng)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await operation()
                    except RegistryUnavailable as error:
                        reason = str(error)
                    await asyncio.sleep(pauses.next())
        raise RegistryUnavailable(reason)

    async def close(self) -> None:
        """Close the channels to all members. Calls and streams must have ended before. Idempotent."""
        self._closed = True
        if self._renewals is not None:
            await stop(self._renewals)
        await asyncio.gather(*(member.close() for member in self._members))

    async def _ask(self, member: Member, rpc: Rpc, request: Any, timeout: float) -> Any:
        token = await self._tokens.current(member)
        try:
            return await member.call(rpc, request, _metadata(token), timeout)
        except StaleToken:
            self._tokens.forget(token)
        return await member.call(rpc, request, _metadata(await self._tokens.current(member)), timeout)

    def _member(self) -> Member:
        if self._closed:
            raise RegistryClosed("the registry is closed")
        if self._tls is not None and self._renewals is None:
            self._renewals = asyncio.create_task(
                keep_doing(self._renew, Backoff(self._rng)), name="grpc_registry certificates"
            )
        return self._members[self._current]

    async def _renew(self) -> None:
        await asyncio.sleep(RENEW_SECONDS)
        await asyncio.gather(*(member.renew() for member in self._members))

    def _leave(self, member: Member) -> None:
        """Go on to the next member, unless another task already did."""
        if self._members[self._current] is member:
            self._current = (self._current + 1) % len(self._members)


class Tokens:
    """The token of a login, asked for when there is none, once for all that need it at the same time."""

    def __init__(self, login: Login | None) -> None:
        self._login = login
        self._token = ""
        self._asking = asyncio.Lock()

    async def current(self, member: Member) -> str:
        """The token, if need be from `member`; empty without a login. Raises `RegistryRefused` for a wrong password."""
        if self._login is None or self._token:
            return self._token
        async with self._asking:
            if not self._token:
                request = v3.AuthenticateRequest(name=self._login.user, password=self._login.password)
                answer = await member.call(v3.AUTHENTICATE, request, _HAS_LEADER, ATTEMPT_SECONDS)
                self._token = answer.token
        return self._token

    def forget(self, token: str) -> None:
        """Drop `token`; a newer one, fetched meanwhile by someone else, is kept."""
        if self._token == token:
            self._token = ""


def _metadata(token: str) -> Metadata:
    return (*_HAS_LEADER, ("token", token)) if token else _HAS_LEADER
