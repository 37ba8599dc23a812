"""Ethereum validator clients: one small module each, in an explicit table."""

from types import MappingProxyType

from validator_supervisor.clients import lodestar
from validator_supervisor.clients.client import Client

CLIENTS: MappingProxyType[str, Client] = MappingProxyType({"lodestar": lodestar.CLIENT})
