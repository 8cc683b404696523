"""A channel as `listener.Observed` has it, made of its dispatcher."""

from __future__ import annotations

from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import Endpoint
from grpc_balancer.listener import Standing
from grpc_registry import State


class View:
    """Reads only what one step of Python makes a copy of, so that other threads may look."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    @property
    def service(self) -> str:
        return self._dispatcher.balancer.service

    @property
    def policy(self) -> str:
        return self._dispatcher.policy

    @property
    def standings(self) -> list[Standing]:
        retiring = list(self._dispatcher.retiring)
        # One may have begun to retire between the two looks.
        present = [one for one in self._dispatcher.balancer.endpoints if one not in retiring]
        return [
            *(Standing(one.instance, one.load.count, "retiring") for one in retiring),
            *(Standing(one.instance, one.load.count, _state_of(one)) for one in present),
        ]

    @property
    def waiting(self) -> int:
        return self._dispatcher.waiting

    @property
    def stale_for(self) -> float:
        return self._dispatcher.balancer.stale_for


def _state_of(endpoint: Endpoint) -> str:
    if endpoint.instance.state is not State.SERVING:
        return endpoint.instance.state.value
    return "ejected" if endpoint.record.ejected else endpoint.connectivity.name.lower()
