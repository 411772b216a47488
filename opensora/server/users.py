"""Who may use the server: names with hashed passwords and hashed API keys, in one JSON file.

A user's jobs belong to ``owner``, an unguessable text that was drawn when the user was added, so that whoever knows a
name has nothing in hand. The file is read anew when it changes, so people can be added while the server runs.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from filelock import FileLock

SHORTEST, LONGEST = 10, 256
"""Characters of a password."""
MOST_KEYS = 20
"""API keys of one user."""
KEY_PREFIX = "os"
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$4YzPCvoJLWwVVmZzbJtRQA$LrHaG+CvT/1NfO+YJWuwa7Dl3V9Dzb8ssYHXqR+pb2k"
"""Hash of a text that nobody has: checked for names that there are not, so that the answer takes as long."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class UsersError(ValueError):
    """The users file or a change to it cannot be used. The message is a sentence for people."""


@dataclass(frozen=True)
class ApiKey:
    """A key that a program shows; only its hash is kept. A key has 256 random bits, so a quick hash is enough."""

    id: str
    sha256: str


@dataclass(frozen=True)
class User:
    """One person."""

    name: str
    password: str = field(repr=False)
    """Argon2id hash."""
    owner: str = field(repr=False)
    """Owner of the jobs."""
    keys: tuple[ApiKey, ...] = field(default=(), repr=False)
    admin: bool = False
    """Whether this person may change what is installed on the server, such as download models."""

    @property
    def stamp(self) -> str:
        """Changes with the password: sessions of an old one end."""
        return hashlib.sha256(self.password.encode()).hexdigest()[:16]


class Users:
    """The users file.

    Args:
        path: a JSON file; it is made by the first change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int] | None, dict[str, User]] = (None, {})
        self._hasher = PasswordHasher()

    def all(self) -> dict[str, User]:
        """All users by name; none where there is no file.

        Raises:
            UsersError: the file cannot be read.
        """
        with self._lock:
            try:
                state = self.path.stat()
            except FileNotFoundError:
                return {}
            except OSError as error:
                raise UsersError(f"The users file {self.path} cannot be read: {error.strerror}.") from error
            seen = state.st_mtime_ns, state.st_ino
            if self._read[0] != seen:
                self._read = seen, _load(self.path)
            return self._read[1]

    def add(self, name: str, password: str) -> User:
        """Add a user, or give one a new password.

        Raises:
            UsersError: the name or the password cannot be used.
        """
        if not _NAME.fullmatch(name):
            raise UsersError(f"Got the name {name[:70]!r}; expected up to 64 letters, digits and . _ @ -.")
        if not SHORTEST <= len(password) <= LONGEST:
            raise UsersError(f"The password has {len(password)} characters; expected {SHORTEST} to {LONGEST}.")
        hashed = self._hasher.hash(password)
        with self._changing() as users:
            before = users.get(name)
            users[name] = (
                User(name, hashed, secrets.token_urlsafe(24)) if before is None else replace(before, password=hashed)
            )
            return users[name]

    def set_admin(self, name: str, admin: bool) -> None:
        """Make a user an administrator, or no longer.

        Raises:
            UsersError: there is none of that name.
        """
        with self._changing() as users:
            users[name] = replace(_known(users, name), admin=admin)

    def remove(self, name: str) -> None:
        """Remove a user with all keys; jobs stay where they are.

        Raises:
            UsersError: there is none of that name.
        """
        with self._changing() as users:
            _known(users, name)
            del users[name]

    def new_key(self, name: str) -> str:
        """A new API key, shown this once.

        Raises:
            UsersError: there is none of that name, or it has too many keys.
        """
        identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        with self._changing() as users:
            user = _known(users, name)
            if len(user.keys) >= MOST_KEYS:
                raise UsersError(f"{name} has {len(user.keys)} keys; revoke one first.")
            users[name] = replace(user, keys=(*user.keys, ApiKey(identity, _hash(secret))))
        return f"{KEY_PREFIX}_{identity}_{secret}"

    def revoke(self, name: str, key_id: str) -> None:
        """Make an API key void.

        Raises:
            UsersError: there is no such key.
        """
        with self._changing() as users:
            user = _known(users, name)
            kept = tuple(key for key in user.keys if key.id != key_id)
            if len(kept) == len(user.keys):
                ids = ", ".join(key.id for key in user.keys) or "none"
                raise UsersError(f"{name} has no key {key_id[:20]!r}; the keys are: {ids}.")
            users[name] = replace(user, keys=kept)

    def by_password(self, name: str, password: str) -> User | None:
        """The user whom a name and a password belong to; takes as long for names that there are not."""
        user = self.all().get(name)
        try:
            self._hasher.verify(_NOBODY if user is None else user.password, password[: LONGEST + 1])
        except (VerificationError, InvalidHashError):
            return None
        return user

    def by_key(self, key: str) -> User | None:
        """The user of an API key."""
        prefix, _, rest = key.partition("_")
        identity, _, secret = rest.partition("_")
        if prefix != KEY_PREFIX or not secret:
            return None
        hashed = _hash(secret)
        for user in self.all().values():
            for known in user.keys:
                if known.id == identity and hmac.compare_digest(known.sha256, hashed):
                    return user
        return None

    def _changing(self) -> "_Change":
        return _Change(self.path)


class _Change:
    """The users by name, written back when the block ends well; other processes wait meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path, self._users = path, dict[str, User]()

    def __enter__(self) -> dict[str, User]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(f"{self._path}.lock", timeout=10)
            self._lock.acquire()
        except OSError as error:  # also when the lock is not had in time
            raise UsersError(f"The users file {self._path} cannot be changed: {error.strerror or error}.") from error
        try:
            self._users = _load(self._path) if self._path.exists() else {}
        except UsersError:
            self._lock.release()
            raise
        return self._users

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                _save(self._path, self._users)
        finally:
            self._lock.release()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _known(users: dict[str, User], name: str) -> User:
    if name not in users:
        raise UsersError(f"There is no user {name[:70]!r}; the users are: {', '.join(users) or 'none'}.")
    return users[name]


def _load(path: Path) -> dict[str, User]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {entry["name"]: _user(entry) for entry in data["users"]}
    except OSError as error:
        raise UsersError(f"The users file {path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise UsersError(
            f"{path} is no users file. Make one with: python -m opensora users add NAME --file {path}"
        ) from None


def _user(entry: dict[str, Any]) -> User:
    return User(**{**entry, "keys": tuple(ApiKey(**key) for key in entry["keys"])})


def _save(path: Path, users: dict[str, User]) -> None:
    """Replace the file by one that only its owner can read."""
    text = json.dumps({"users": [asdict(user) for user in users.values()]}, indent=1) + "\n"
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsersError(f"The users file {path} cannot be written: {error.strerror}.") from error
