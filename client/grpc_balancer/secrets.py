"""What connections to endpoints are secured with: credentials for good, or files that may be replaced meanwhile."""

from __future__ import annotations

import grpc

from grpc_balancer.options import Options
from grpc_registry.tls import TlsFiles, TlsMaterial

Given = grpc.ChannelCredentials | TlsFiles | None


class Secrets:
    """The credentials for the next connection. Raises `InvalidTls`, or `TypeError` for what is neither."""

    def __init__(self, given: Given) -> None:
        if given is not None and not isinstance(given, grpc.ChannelCredentials | TlsFiles):
            # In silence it would be plain text.
            raise TypeError(f"credentials of type {type(given).__name__}: grpc.ChannelCredentials, TlsFiles, or None")
        self.options: Options = ()
        self._credentials = given if isinstance(given, grpc.ChannelCredentials) else None
        self._follower = None
        self._material: TlsMaterial | None = None
        if isinstance(given, TlsFiles):
            self.options = tuple(given.channel_options())
            self._follower = given.follow()

    @property
    def may_change(self) -> bool:
        return self._follower is not None

    def current(self) -> grpc.ChannelCredentials | None:
        """None: plain text. The same object until the files change."""
        if self._follower is not None:
            material = self._follower.current()
            if material is not self._material:
                self._material, self._credentials = material, material.channel_credentials()
        return self._credentials
