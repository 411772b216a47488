"""Nonsense for every endpoint and every parser, by hypothesis: nothing crashes, answers with 500, hangs or writes
outside of its folders.

``python benchmarks/reliability/fuzz.py --cases 100000 --uploads 3000`` runs everything in one process: the whole
application with the page, its queue without workers, and the parsers of ``parsers.py``. Exit code 1 where something is
found; it is printed with the case.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that the file also runs as a script

from benchmarks.reliability.parsers import Parser, all_parsers
from benchmarks.reliability.record import keep
from benchmarks.reliability.requests_of import UPLOADS, Call, calls, mutated, seeds
from opensora.jobs.durable import DurableQueue
from opensora.server.app import create_server
from opensora.server.errors import ApiError
from opensora.server.settings import Rates, ServerSettings

PARSED, ENDPOINTS = 0.8, 0.2
"""Shares of the cases that parsers and endpoints get."""
PATIENCE = 600.0
"""Seconds after which a call hangs, on a machine that is busy with other things too."""
UNLIMITED = Rates(10**9, 10**9, 10**9, 10**9)


@dataclass
class Found:
    """What was tried and what was found."""

    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)

    def defect(self, what: str, case: object, why: object) -> None:
        """Keep a defect."""
        self.defects.append(f"{what}: {case!r:.600} -> {why!r:.600}")


def run(strategy: Any, case: Callable[[Any], None], count: int, number: int = 0) -> None:
    """Call ``case`` with ``count`` values of a strategy; the same ones every time for a number."""

    @seed(number)
    @settings(
        max_examples=max(1, count),
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def all_cases(value: Any) -> None:
        case(value)

    all_cases()


def parse(parsers: Sequence[Parser], count: int, found: Found, number: int = 0) -> None:
    """Nonsense for every parser, ``count`` cases in all."""
    for parser in parsers:

        def one(value: Any, parser: Parser = parser) -> None:
            found.cases[parser.name] += 1
            try:
                parser.read(value)
            except parser.refusals:
                pass
            except Exception as error:
                found.defect(parser.name, value, error)

        run(parser.values, one, count // len(parsers), number)


class Application:
    """The whole application in this process, asked without a network.

    Args:
        folder: of its results.
        page: whether gradio's page is in it.
    """

    def __init__(self, folder: Path, page: bool = True) -> None:
        self.outputs = folder / "outputs"
        self.outputs.mkdir(parents=True, exist_ok=True)
        self.queue = DurableQueue(self.outputs, gpus=())
        closed = None
        if page:
            from opensora.ui.web import CLOSED as closed
        app, videos = create_server(self.queue, ServerSettings(self.outputs, rates=UNLIMITED), closed)
        if page:
            from opensora.ui.web import add_page

            add_page(app, self.queue, self.outputs, programs=(videos, ApiError))
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(app, raise_app_exceptions=True, client=("127.0.0.1", 1))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    def ask(self, call: Call, found: Found, what: str) -> None:
        """One call; what must not be is kept."""
        found.cases[what] += 1
        try:
            answer = self._loop.run_until_complete(asyncio.wait_for(self._asked(call), PATIENCE))
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError):
            found.statuses["not sent"] += 1
            return
        except Exception as error:
            found.defect(what, call, error)
            return
        found.statuses[str(answer.status_code)] += 1
        if answer.status_code >= 500 and not (answer.status_code == 503 and "error" in answer.text):
            found.defect(what, call, f"{answer.status_code} {answer.text[:300]}")
        if answer.status_code == 201:
            job = answer.json()["id"]
            for method, path in (("POST", f"/v1/videos/{job}/cancel"), ("DELETE", f"/v1/videos/{job}")):
                self._loop.run_until_complete(self._http.request(method, path))

    async def _asked(self, call: Call) -> httpx.Response:
        return await self._http.request(
            call.method,
            httpx.URL("http://127.0.0.1").copy_with(raw_path=call.path.encode("utf-8", "replace")),
            headers=call.headers,
            content=call.body,
            files=call.files or None,
            data=call.data or None,
        )

    def close(self) -> None:
        """Stop it."""
        self._loop.run_until_complete(self._http.aclose())
        self._loop.close()
        self.queue.close()


def written(folders: Sequence[Path]) -> set[str]:
    """Files below some folders."""
    return {str(path) for folder in folders for path in folder.rglob("*") if path.is_file()}


def fuzz(folder: Path, cases: int, uploads: int, page: bool, number: int = 0) -> Found:
    """All of it.

    Args:
        folder: for everything that is written.
        number: chooses other cases.
    """
    found = Found()
    outside = folder / "outside"
    outside.mkdir()
    here = Path.cwd()
    os.chdir(outside)  # a relative name that is written to shows
    try:
        parse(all_parsers(folder), int(cases * PARSED), found, number)
        application = Application(folder, page)
        try:
            run(calls(page), lambda call: application.ask(call, found, "endpoint"), int(cases * ENDPOINTS), number)
            whole = seeds(folder)
            run(mutated(whole), lambda call: application.ask(call, found, "upload"), uploads, number)
        finally:
            application.close()
    finally:
        os.chdir(here)
    for path in written([outside]):
        found.defect("outside", path, "a file was written here")
    left = [path for path in written([application.outputs]) if "/.jobs/" not in path and ".server" not in path]
    for path in left:
        found.defect("left", path, "a file was left among the results")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and record; returns the exit code."""
    parser = argparse.ArgumentParser(description="Nonsense for every endpoint and parser.")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--uploads", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0, help="other cases")
    parser.add_argument("--no-page", action="store_true", help="without gradio's page, which takes a while to build")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    chosen = parser.parse_args(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="opensora-fuzz-") as name:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(name) / "uploads")
        found = fuzz(Path(name), chosen.cases, chosen.uploads, not chosen.no_page, chosen.seed)
    values = {
        "cases": dict(found.cases),
        "statuses": dict(sorted(found.statuses.items())),
        "uploads_of": sorted(UPLOADS),
        "seconds": round(time.monotonic() - begun),
        "defects": found.defects[:50],
        "defects_in_all": len(found.defects),
    }
    return keep("fuzz", values, not found.defects, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
