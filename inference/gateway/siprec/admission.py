"""Which hosts may send anything at all."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache


class AllowList:
    """Networks of SBCs.

    Args:
        networks: their addresses; None admits everybody.
    """

    def __init__(self, networks: Sequence[str] | None) -> None:
        self._networks = None if networks is None else [ipaddress.ip_network(text) for text in networks]
        self._admits = lru_cache(4096)(self._look_up)

    def __call__(self, host: str) -> bool:
        """Whether a numeric address is in one of them."""
        return self._networks is None or self._admits(host)

    def _look_up(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        address = address if mapped is None else mapped
        return any(address in network for network in self._networks or () if network.version == address.version)
