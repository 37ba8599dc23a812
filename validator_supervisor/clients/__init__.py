"""Ethereum validator clients: one small module each, in an explicit table."""

from types import MappingProxyType

from validator_supervisor.clients import lighthouse, lodestar, nimbus, prysm, teku
from validator_supervisor.clients.client import Client

CLIENTS: MappingProxyType[str, Client] = MappingProxyType(
    {
        "lighthouse": lighthouse.CLIENT,
        "prysm": prysm.CLIENT,
        "teku": teku.CLIENT,
        "nimbus": nimbus.CLIENT,
        "lodestar": lodestar.CLIENT,
    }
)
