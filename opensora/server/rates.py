"""How often somebody asked lately, by the ``limits`` library, in memory."""

import ipaddress
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from opensora.server.errors import ApiError
from opensora.server.settings import Rates

NAMES = {"megabytes": "MB of pictures and clips"}
"""What is counted, where it is not requests."""


class RateLimits:
    """Counts requests by group and by who asks."""

    def __init__(self, rates: Rates) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._items = {
            name: RateLimitItemPerMinute(getattr(rates, name), namespace=name)
            for name in ("requests", "heavy", "megabytes", "logins")
        }

    def check(self, group: str, who: str, cost: int = 1) -> None:
        """Count a request.

        Args:
            cost: how much of the group's amount it takes.

        Raises:
            ApiError: there were too many.
        """
        item = self._items[group]
        if self._limiter.hit(item, who, cost=cost):
            return
        reset = self._limiter.get_window_stats(item, who).reset_time
        seconds = max(1, math.ceil(reset - time.time()))
        raise ApiError(
            429,
            "rate_limit",
            f"More than {item.amount} {NAMES.get(group, 'requests')} in a minute; try again in {seconds} seconds.",
            headers={"Retry-After": str(seconds)},
        )


def network(address: str) -> str:
    """Whom an address counts for: itself, or for IPv6 the network of 64 bits that one customer has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return address
