"""Imports everything of ours as if the modules that only Unix has were not there, and prints what was imported."""

import builtins
import importlib
import json
import pkgutil
import sys
from typing import Any

ONLY_ON_UNIX = ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")
"""Modules of the standard library."""
OURS = ("opensora", "app", "benchmarks")
plain_import = builtins.__import__


def as_on_windows(name: str, globals: Any = None, *more: Any, **named: Any) -> Any:
    """Other people's packages, which look at the system themselves, get everything; ours does not."""
    who = ((globals or {}).get("__name__") or "").partition(".")[0]
    if who in OURS and name.partition(".")[0] in ONLY_ON_UNIX:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain_import(name, globals, *more, **named)


def main() -> None:
    sys.path.insert(0, ".")
    builtins.__import__ = as_on_windows
    failed, count = {}, 0
    import opensora

    names = [module.name for module in pkgutil.walk_packages(opensora.__path__, "opensora.")]
    for name in (*names, "app", "benchmarks.reliability.running"):
        if name.endswith("__main__"):
            continue
        try:
            importlib.import_module(name)
            count += 1
        except ModuleNotFoundError as error:
            if error.name not in ("colossalai", "spaces", "bitsandbytes"):
                failed[name] = str(error)
    from opensora.datasets.confined_worker import confine

    confine(1)  # would end this process where the system bounds it
    print(json.dumps({"failed": failed, "imported": count, "still_here": len(b"x" * 10**6)}))


if __name__ == "__main__":
    main()
