"""The service config that holds now: the registry's, else the one given in code; and what follows from it.

As in gRPC, what the resolver says counts for more than what the program says, since the owner of the service says it:
the registry's config replaces the one in code as a whole, and its `loadBalancingConfig`, if there is one, outranks the
channel's `policy`. A config that is wrong changes nothing: the last good one stays in force.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from grpc_balancer.pickers import PickerFactory, policies, policy_of
from grpc_registry import ConfigResolution, ConfigSnapshot
from grpc_registry.service_config import Balancing, OutlierDetection, ServiceConfig, parse

_log = logging.getLogger(__name__)

DEFAULT_POLICY = "least_outstanding"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a channel goes by."""

    config: ServiceConfig
    balancing: Balancing
    factory: PickerFactory = field(repr=False)
    outlier_detection: OutlierDetection | None


class LiveConfig:
    """Makes plans of what the registry says. Nothing here waits or acts."""

    def __init__(
        self,
        service: str,
        default: ServiceConfig,
        policy: Balancing | None,
        outlier_detection: OutlierDetection | None,
    ) -> None:
        self.known = False
        """Whether the registry has said anything, if only that it is away."""
        self._service = service
        self._fields = {"mesh_service": service}  # of log records
        self._default = default
        self._policy = policy
        self._outlier_detection = outlier_detection
        self._text: str | None = None
        self._missed = False  # whether the registry has none any more, and that was said
        self.plan = self._plan_for(default, default.balancing if policy is None else policy)

    def take(self, resolution: ConfigResolution) -> bool:
        """Take what the registry says. Whether there is a new plan."""
        self.known = True
        if not isinstance(resolution, ConfigSnapshot) or resolution.text == self._text:
            return False
        if resolution.text is None and resolution.relisted:
            if not self._missed:  # said once, however often the registry comes and goes
                self._missed = True
                _log.warning(
                    "the registry lost the service config of %r, or it was removed while the registry was away: it"
                    " stays in force here; to be without one, set {}",
                    self._service,
                    extra=self._fields,
                )
            return False
        self._missed = False
        self._text = resolution.text
        try:
            self.plan = self._read(resolution.text)
        except ValueError as error:  # InvalidServiceConfig, or settings that a policy cannot use
            _log.warning("the registry's service config of %r is ignored: %s", self._service, error, extra=self._fields)
            return False
        return True

    def _read(self, text: str | None) -> Plan:
        if text is None:
            return self._plan_for(self._default, self._policy or self._default.balancing)
        config = parse(text, policies())
        return self._plan_for(config, config.balancing or self._policy or self._default.balancing)

    def _plan_for(self, config: ServiceConfig, balancing: Balancing | None) -> Plan:
        chosen = balancing or Balancing(DEFAULT_POLICY)
        return Plan(config, chosen, policy_of(chosen), chosen.outlier_detection or self._outlier_detection)
