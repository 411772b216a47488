"""What the environment says of the Space that this is, and where its files go."""

import importlib.util
import logging
import os
import tempfile
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from opensora.sentences import joined, say

log = logging.getLogger(__name__)

STORAGE = Path("/data")
"""Where a Space has its own storage, if it has any; everything else is gone when it restarts."""
DUPLICATE = "OPENSORA_DUPLICATE_BUTTON"
"""Variable of the environment that asks for a button by which visitors make a Space of their own of this one."""
YES, NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Space:
    """The Space that this program is."""

    id: str
    """Such as ``someone/open-sora``."""
    folder: Path
    """Folder of all that is written."""
    kept: bool
    """Whether it outlives a restart."""
    zero_gpu: bool = False
    """Whether GPUs come by the minute, from ZeroGPU."""
    duplicate: bool = False
    """Whether the page has the button to duplicate it."""

    @property
    def uses_zero_gpu(self) -> bool:
        """Whether clips are made on ZeroGPU: it is there, and so is the package that asks for its GPUs."""
        return self.zero_gpu and importlib.util.find_spec("spaces") is not None

    def notice(self) -> str:
        """What visitors have to know."""
        kept = say("space.kept") if self.kept else say("space.gone")
        if not self.zero_gpu:
            return kept
        return joined([kept, say("space.zero") if self.uses_zero_gpu else say("space.package")])


def space_of(environment: Mapping[str, str], storage: Path = STORAGE) -> Space | None:
    """The Space that an environment belongs to; ``None`` outside of one. Writes nothing that stays.

    Raises:
        ValueError: the setting of the button is neither yes nor no.
    """
    name = environment.get("SPACE_ID")
    if not name:
        return None
    kept = _writable(storage)
    return Space(
        id=name,
        folder=storage if kept else Path(tempfile.gettempdir()) / "opensora-space",
        kept=kept,
        zero_gpu=_yes(environment, "SPACES_ZERO_GPU"),
        duplicate=_yes(environment, DUPLICATE),
    )


def settle(environment: MutableMapping[str, str], storage: Path = STORAGE) -> Space | None:
    """Let everything that is written go to the Space's folder, unless the environment says another; outside of a Space
    nothing changes.

    Raises:
        ValueError: as of :func:`space_of`.
    """
    space = space_of(environment, storage)
    if space is None:
        return None
    space.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, below in (("OPENSORA_OUTPUT_DIR", "outputs"), ("HF_HOME", "hf"), ("XDG_CACHE_HOME", "cache")):
        environment.setdefault(name, str(space.folder / below))
    log.info("this is the Space %s; files go to %s. %s", space.id, space.folder, space.notice())
    return space


def _writable(folder: Path) -> bool:
    """Whether files can be made there, which asking for the rights alone does not tell."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _yes(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").strip().lower()
    if value not in (*YES, *NO):
        raise ValueError(f"Got {value[:40]!r} for {name}; expected one of {', '.join(YES)} or {', '.join(NO[1:])}.")
    return value in YES


def here() -> Space | None:
    """The Space of this process."""
    return space_of(os.environ)
