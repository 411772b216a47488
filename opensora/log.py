"""Log lines for people at a terminal: short, one line each, on stderr."""

import logging
import sys

_OURS = "opensora"


def setup(level: int | str = logging.INFO) -> None:
    """Show this package's log lines from `level` up on stderr; calling again only changes the level.

    Programs call this once at their start; the library itself never does, so that whoever embeds it keeps
    their own logging. Other packages' lines are shown from WARNING up.
    """
    ours = logging.getLogger(_OURS)
    if not any(getattr(handler, "name", None) == _OURS for handler in logging.getLogger().handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.name = _OURS
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
        logging.getLogger().addHandler(handler)
    ours.setLevel(level)
