"""Slots that are shared fairly between client addresses. Sans-I/O."""

import ipaddress
from collections import Counter


class FairShare:
    """A limited number of slots (``total``), shared between client addresses. Each address may always occupy up to
    ``each`` slots. An address may occupy more slots only while at least half of all slots are free.

    No address can occupy more than half of all slots, unless its guaranteed share is larger. The remaining slots stay
    available to other addresses. A proxy in front of many clients counts as one address. An address may therefore
    exceed its share while few slots are in use.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total, self._each = total, each
        self._taken: Counter[str] = Counter()
        self.count = 0

    def take(self, address: str, number: int = 1) -> bool:
        """Reserve slots for an address. Return whether enough slots were available."""
        after = self.count + number
        if after > self._total or (self._taken[address] + number > self._each and 2 * after > self._total):
            return False
        self._taken[address] += number
        self.count = after
        return True

    def release(self, address: str, number: int = 1) -> None:
        """Release slots that an address has reserved."""
        self.count -= number
        self._taken[address] -= number
        if not self._taken[address]:
            del self._taken[address]


def address_of(host: str) -> str:
    """Return the address under which a client is counted: an IPv4 address, or the /64 network of an IPv6
    address.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))
