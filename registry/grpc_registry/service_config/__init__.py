"""The gRPC service config: how the owner of a service wants it called. `parse` checks it and takes it apart.

It lives here and not with the client, which obeys it, since `meshctl` must refuse a wrong one and knows no client.
"""

from grpc_registry.service_config.balancing import POLICIES
from grpc_registry.service_config.json_fields import InvalidServiceConfig
from grpc_registry.service_config.model import (
    UNSAID,
    Balancing,
    FailurePercentage,
    HedgingPolicy,
    MethodConfig,
    OutlierDetection,
    RetryPolicy,
    RetryThrottling,
    RingHash,
    ServiceConfig,
    SuccessRate,
)
from grpc_registry.service_config.parsing import parse, parse_balancing

__all__ = [
    "POLICIES",
    "UNSAID",
    "Balancing",
    "FailurePercentage",
    "HedgingPolicy",
    "InvalidServiceConfig",
    "MethodConfig",
    "OutlierDetection",
    "RetryPolicy",
    "RetryThrottling",
    "RingHash",
    "ServiceConfig",
    "SuccessRate",
    "parse",
    "parse_balancing",
]
