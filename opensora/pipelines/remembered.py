"""Small JSON files of the user's cache folder: what was measured on this machine, by key."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Value = TypeVar("Value")


def cache_folder() -> Path:
    """The user's cache folder for this program."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "opensora"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "opensora" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "opensora"
    return Path.home() / ".cache" / "opensora"


def read(name: str, kind: type[Value]) -> dict[str, Value]:
    """Entries of a file whose values are of a kind; none where it is not there or damaged."""
    try:
        known = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {key: value for key, value in entries if isinstance(value, kind)}


def write(name: str, known: dict[str, Any]) -> None:
    """Write a file whole or not at all. A failure is no failure of what was measured: it is measured again."""
    path = cache_folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        log.debug("%s was not kept: %s", name, error)
