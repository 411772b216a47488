"""A real PostgreSQL for tests: started in a folder of its own by Debian's package, as a user that is not root."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MISSING = "PostgreSQL is not installed (apt-get install postgresql), so workers on several machines were not tried"


def programs() -> Path | None:
    """Folder of ``initdb`` and ``postgres``; ``None`` where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return None if path is None else Path(path).parent


@contextmanager
def running() -> Iterator[str]:
    """Address of an empty database; the test is skipped, or fails where it is required, without PostgreSQL."""
    folder = programs()
    if folder is None:
        assert not os.environ.get("OPENSORA_REQUIRE_POSTGRES"), MISSING
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix="opensora-postgres-") as place:
        user = "postgres" if os.getuid() == 0 else getpass.getuser()
        if os.getuid() == 0:
            shutil.chown(place, user)
        data = f"{place}/data"
        _run(user, folder / "initdb", "--pgdata", data, "--auth", "trust", "--username", "opensora", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{place}' -c fsync=off"
        control = (folder / "pg_ctl", "--pgdata", data)
        _run(user, *control, "--wait", "--log", f"{place}/log", "--options", options, "start")
        try:
            yield f"postgresql://opensora@/postgres?host={place}"
        finally:
            _run(user, *control, "--mode", "immediate", "stop")


def _run(user: str, *command: str | Path) -> None:
    subprocess.run(
        [str(word) for word in command],
        user=user if os.getuid() == 0 else None,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
