"""`pick_first`: one endpoint for everything, while it stays connected."""

from __future__ import annotations

from grpc_balancer.pickers.contract import CallInfo, Candidate
from grpc_balancer.pickers.excluding import Excluding


class PickFirst(Excluding):
    """The endpoint that has been connected the longest; so a newcomer, or one that returns, never takes calls away.

    Unlike gRPC's policy of that name the other endpoints are connected too, ready to take over at once.
    """

    def pick(self, call: CallInfo) -> Candidate:
        return self.candidates[0]

    def __repr__(self) -> str:
        return f"<PickFirst {self.candidates[0]!r}>"
