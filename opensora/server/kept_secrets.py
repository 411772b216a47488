"""Secrets that the server draws for itself, kept beside the results so that they outlive a restart."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = ".server.json"


@dataclass(frozen=True)
class KeptSecrets:
    """What the server signs and names with."""

    session: str = field(repr=False)
    """Signs the cookies of people who logged in."""
    local_owner: str = field(repr=False)
    """Owner of the jobs of programs on this machine where there is no login."""


def load(folder: Path) -> KeptSecrets:
    """The secrets of an output folder, drawn at the first call.

    Raises:
        OSError: they can be neither read nor written.
        ValueError: the file is damaged.
    """
    path = folder / FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        try:
            return KeptSecrets(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(f"{path} is damaged; delete it, and everybody has to log in again.") from None
    drawn = KeptSecrets(secrets.token_urlsafe(32), secrets.token_urlsafe(24))
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(drawn), file)
    return drawn
