"""Who can read the key of people's tokens runs the shop."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot
from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority, bearer
from shop_services.runtime.operator import OPERATOR, operator_channel, operator_credentials, operator_token
from shop_services.runtime.server import make_server
from shop_services.runtime.settings import SettingError, Settings
from tests.unit.services.runtime.probe import failure
from tests.unit.services.runtime.test_server import APP


def test_the_operator_is_an_admin_everywhere(tmp_path: Path) -> None:
    """Services on the same keys believe the token, and those on others do not."""
    settings = Settings(data=tmp_path / "here")
    user = Authority.open(settings, "user")
    assert user.identify(bearer(operator_token(settings))) == OPERATOR
    credentials = operator_credentials(settings)
    assert user.identify(credentials()) == OPERATOR
    assert credentials() is credentials()
    assert "operator" not in repr(credentials)


def test_without_the_key_there_is_no_operator(tmp_path: Path) -> None:
    """A directory of public keys makes nobody one."""
    with pytest.raises(SettingError, match=r"no key of identity in .*/private; `shop keys init` makes what is missing"):
        operator_token(Settings(keys_dir=tmp_path))


async def test_calls_of_the_operator_reach_every_instance(tmp_path: Path) -> None:
    """They are balanced as those of services are, and carry the token."""
    settings = Settings(data=tmp_path)
    server = make_server(App("user", APP.services, authority=Authority.open(settings, "user")))
    port = server.grpc.add_insecure_port("127.0.0.1:0")
    await server.grpc.start()
    registry = ManualResolver()
    registry.push(Snapshot("user", 1, (Instance("user", f"127.0.0.1:{port}"),)))
    try:
        async with operator_channel("user", registry, settings) as channel:
            error = await failure(UserServiceStub(channel).GetUser(user_pb2.GetUserRequest(user_id="u")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
    finally:
        await server.grpc.stop(None)
