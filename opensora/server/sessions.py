"""Who asks: a session's cookie, an API key, or a program of this machine where there is no login."""

import hmac
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.datastructures import Headers

from opensora.server.errors import ApiError
from opensora.server.kept_secrets import KeptSecrets
from opensora.server.settings import ServerSettings
from opensora.server.users import KEY_PREFIX, User, Users

COOKIE = "opensora_session"
DAYS = 14
"""Days that a login lasts."""


@dataclass(frozen=True)
class Identity:
    """Whose request it is."""

    owner: str = field(repr=False)
    """Owner of the jobs."""
    user: str | None = None
    """Name of the user; ``None`` for a program of this machine."""
    by_key: bool = False
    """Whether an API key was shown; no page can make a browser do that."""
    admin: bool = False
    """Whether this person may change what is installed: an administrator, or the only one at this machine."""


class Sessions:
    """Tells who asks.

    Args:
        settings: whether there is a login.
        kept: the server's secrets.
    """

    def __init__(self, settings: ServerSettings, kept: KeptSecrets) -> None:
        self.users = None if settings.users is None else Users(settings.users)
        alone = self.users is None and settings.local
        self._local = Identity(kept.local_owner, admin=not settings.framed_by) if alone else None
        self._signer = URLSafeTimedSerializer(kept.session, salt="opensora-session")

    def identify(self, headers: Headers) -> Identity | None:
        """Who asks; ``None`` if nobody is known by that.

        Raises:
            ApiError: the API key that was shown is void.
        """
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key.startswith(f"{KEY_PREFIX}_"):
            user = None if self.users is None else self.users.by_key(key.strip())
            if user is None:
                raise ApiError(401, "authentication", "This API key is not known here; make a new one.")
            return Identity(user.owner, user.name, by_key=True, admin=user.admin)
        if self.users is None:
            return self._local
        user = self._of_cookie(headers)
        return None if user is None else Identity(user.owner, user.name, admin=user.admin)

    def cookie(self, user: User) -> str:
        """Value of the cookie of somebody who just logged in."""
        value = self._signer.dumps({"name": user.name, "stamp": user.stamp})
        return value if isinstance(value, str) else value.decode()

    def _of_cookie(self, headers: Headers) -> User | None:
        assert self.users is not None
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
            if morsel is None:
                return None
            told: dict[str, Any] = self._signer.loads(morsel.value, max_age=DAYS * 86400)
        except (CookieError, BadData):
            return None
        user = self.users.all().get(told["name"])
        return user if user is not None and hmac.compare_digest(user.stamp, told["stamp"]) else None
