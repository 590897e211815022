"""The node's agent: measures links, delivers samples without losing any, keeps transport parameters in force.

Nothing of it is imported by `pba_client` itself.
"""

from pba_client.agent.agent import Agent
from pba_client.agent.config import (
    AgentConfig,
    ConfigError,
    LinkConfig,
    ProbeConfig,
    ReflectorConfig,
    TrainConfig,
)
from pba_client.agent.config_file import load_config
from pba_client.agent.guide import Decision, Origin
from pba_client.agent.measurement import Measurement, Source
from pba_client.agent.reflector import Reflector
from pba_client.agent.tally import Share

__all__ = [
    "Agent",
    "AgentConfig",
    "ConfigError",
    "Decision",
    "LinkConfig",
    "Measurement",
    "Origin",
    "ProbeConfig",
    "Reflector",
    "ReflectorConfig",
    "Share",
    "Source",
    "TrainConfig",
    "load_config",
]
