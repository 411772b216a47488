"""How the server is reached, by whom, and how much it answers."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?", re.IGNORECASE)
SHORTEST_SECRET = 24
"""Characters of the secret that signs webhooks."""


@dataclass(frozen=True)
class Rates:
    """How often one key, or one address without a key, may ask."""

    requests: int = 600
    """Requests of programs in a minute."""
    heavy: int = 60
    """Of these and of the page, those that bring a request for a clip or a file, in a minute."""
    megabytes: int = 1024
    """Size of all that they bring in a minute, so that nobody fills the disk; what does not say its size counts as
    large as it may be."""
    logins: int = 10
    """Attempts to log in, in a minute, of one address."""
    streams: int = 16
    """Event streams that are open at once."""

    def __post_init__(self) -> None:
        for name in ("requests", "heavy", "megabytes", "logins", "streams"):
            if getattr(self, name) < 1:
                raise ValueError(f"Got {getattr(self, name)} for {name}; expected at least 1.")


@dataclass(frozen=True)
class ServerSettings:
    """Who reaches the server, and how."""

    output_dir: Path
    """Folder of the results; the server keeps a file with its own secrets there."""
    host: str = "127.0.0.1"
    """Address that it listens on."""
    users: Path | None = None
    """Users file; ``None``: there is no login."""
    allow_hosts: tuple[str, ...] = ()
    """Names under which browsers may call it, besides addresses and this machine's own names."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that may be told of finished jobs, each with a port where it is not 443."""
    webhook_secret: str | None = field(default=None, repr=False)
    """Signs what they are told."""
    framed_by: tuple[str, ...] = ()
    """Origins whose pages may show this one in a frame."""
    rates: Rates = Rates()

    def __post_init__(self) -> None:
        for option, hosts in (("allowed hosts", self.allow_hosts), ("webhook hosts", self.webhook_hosts)):
            for host in hosts:
                if not _HOST.fullmatch(host):
                    raise ValueError(f"Got {host!r} among the {option}; expected a name such as hooks.example.com.")
        if self.webhook_hosts and len(self.webhook_secret or "") < SHORTEST_SECRET:
            raise ValueError(
                f"Webhooks are signed, and the secret has {len(self.webhook_secret or '')} characters; expected at "
                f"least {SHORTEST_SECRET}. Set OPENSORA_WEBHOOK_SECRET, such as to the output of: openssl rand -hex 32"
            )

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
