"""A grpc.aio channel that discovers the instances of a service and balances calls over them."""

from grpc_balancer.channel import Channel
from grpc_balancer.explanation import Considered, Explanation
from grpc_balancer.load import Load
from grpc_balancer.options import FAST_KEEPALIVE, SERVER_FAST_KEEPALIVE
from grpc_balancer.pickers import CallInfo, Candidate, Picker, PickerFactory, policies, register_policy
from grpc_balancer.rules import OutstandingLimit
from grpc_registry.service_config import FailurePercentage, InvalidServiceConfig, OutlierDetection, SuccessRate

__all__ = [
    "FAST_KEEPALIVE",
    "SERVER_FAST_KEEPALIVE",
    "CallInfo",
    "Candidate",
    "Channel",
    "Considered",
    "Explanation",
    "FailurePercentage",
    "InvalidServiceConfig",
    "Load",
    "OutlierDetection",
    "OutstandingLimit",
    "Picker",
    "PickerFactory",
    "SuccessRate",
    "policies",
    "register_policy",
]
