"""Hundreds of clients at once: does the page answer, is what is too much refused clearly, does memory stay flat?

``python benchmarks/reliability/load.py --clients 300 --seconds 120`` starts ``app.py`` with a login, gives every ten
clients a key of their own, and lets a third of them look at the page, the others poll, list and submit far beyond what
a queue takes. Exit code 1 where a bound of :func:`judged` is missed.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that the file also runs as a script

from benchmarks.reliability.record import keep
from benchmarks.reliability.running import Held, Running, app, until
from opensora.server.users import Users

CLIP = {"prompt": "a red ball", "length": "1f", "steps": 1, "seed": 1}
SHARE = 10
"""Clients that use one person's key."""
FLAT = 48.0
"""MB that the server may have grown from the first third of the time to the last."""
PATIENCE = 300.0
"""Seconds that a client waits for an answer."""
KINDS = ("page", "poll", "page", "list", "submit", "page", "poll", "list", "submit")
"""What clients do, in turn."""
REFUSED = (429, 503)


@dataclass
class Seen:
    """What all clients saw."""

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unclear: list[str] = field(default_factory=list)
    """Refusals without a sentence or without a word on when to come again."""

    @property
    def refused(self) -> int:
        """Submissions that were refused because they were too many."""
        return sum(self.statuses["submit"][str(status)] for status in REFUSED)

    def take(self, kind: str, answer: httpx.Response, seconds: float) -> None:
        """Count an answer."""
        self.statuses[kind][str(answer.status_code)] += 1
        self.seconds[kind].append(seconds)
        if answer.status_code in REFUSED:
            after = answer.headers.get("retry-after", "")
            sentence = "error" in answer.text and "message" in answer.text
            if not (after.isdecimal() and sentence):
                self.unclear.append(f"{kind} {answer.status_code} Retry-After={after!r} {answer.text[:100]}")


async def client(number: int, running: Running, keys: Sequence[str], seen: Seen, over: Callable[[], bool]) -> None:
    """One client until it is over."""
    kind = KINDS[number % len(KINDS)]
    headers = {"Authorization": f"Bearer {keys[number // SHARE % len(keys)]}"}
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=PATIENCE, limits=limits) as http:
        job = ""
        while not over():
            begun = time.monotonic()
            try:
                answer = await _asked(http, kind, job)
            except httpx.HTTPError as error:
                seen.statuses[kind][type(error).__name__] += 1
                continue
            seen.take(kind, answer, time.monotonic() - begun)
            if kind == "poll" and not job:
                job = await _a_job(http)
            await asyncio.sleep(0.2)


async def _asked(http: httpx.AsyncClient, kind: str, job: str) -> httpx.Response:
    if kind == "page":
        return await http.get("/", headers={"Accept": "text/html"})
    if kind == "submit":
        return await http.post("/v1/videos", json=CLIP)
    return await http.get(f"/v1/videos/{job}" if kind == "poll" and job else "/v1/videos")


async def _a_job(http: httpx.AsyncClient) -> str:
    with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, IndexError):
        return str((await http.get("/v1/videos")).json()["data"][0]["id"])
    return ""


async def crowd(running: Running, keys: Sequence[str], clients: int, seconds: float, refusals: int = 0) -> Seen:
    """All clients at once, for a time, and on a busy machine longer: until so many submissions were refused."""
    seen, end = Seen(), time.monotonic() + seconds

    def over() -> bool:
        now = time.monotonic()
        return now > end and (seen.refused >= refusals or now > end + PATIENCE)

    await asyncio.gather(*(client(number, running, keys, seen, over) for number in range(clients)))
    return seen


def judged(seen: Seen, held: Sequence[Held], alive: bool) -> tuple[dict[str, Any], bool]:
    """The figures, and whether they are good: every page answered, nothing failed, every refusal clear, memory flat,
    the server alive afterwards."""
    third = max(1, len(held) // 3)
    first, last = (median(look.server for look in part) for part in (held[:third], held[-third:]))
    bad = {
        f"{kind} {status}": count
        for kind, counts in seen.statuses.items()
        for status, count in counts.items()
        if not status.isdecimal() or (int(status) >= 500 and int(status) not in REFUSED)
    }
    pages = seen.statuses["page"]
    told = {
        "answers": {kind: dict(counts) for kind, counts in seen.statuses.items()},
        "seconds": {kind: _spread(times) for kind, times in seen.seconds.items()},
        "failures": bad,
        "unclear_refusals": seen.unclear[:10],
        "server_megabytes": {"first_third": round(first, 1), "last_third": round(last, 1)},
        "most_megabytes": round(max(look.server for look in held), 1),
        "handles": {"most": max(look.handles for look in held), "afterwards": held[-1].handles},
        "alive_afterwards": alive,
    }
    answered = set(pages) == {"200"} and seen.refused > 0
    good = not bad and not seen.unclear and alive and answered and last - first < FLAT
    return told, good


def _spread(times: list[float]) -> dict[str, float]:
    parts = quantiles(times, n=20) if len(times) > 1 else times * 19
    return {"median": round(median(times), 3), "p95": round(parts[18], 3), "most": round(max(times), 3)}


def lives(running: Running, key: str) -> bool:
    """Whether the server still makes a clip, once what waited was cancelled."""
    with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE) as http:

        def asked(method: str, path: str, **more: Any) -> httpx.Response:
            while (answer := http.request(method, path, **more)).status_code == 429:
                time.sleep(min(10, int(answer.headers["retry-after"])))
            return answer

        for view in asked("GET", "/v1/videos", params={"limit": 100}).json()["data"]:
            asked("POST", f"/v1/videos/{view['id']}/cancel")
        made = asked("POST", "/v1/videos", json=CLIP).json()
        until(lambda: asked("GET", f"/v1/videos/{made['id']}").json()["status"] in ("done", "failed"))
        done: bool = asked("GET", f"/v1/videos/{made['id']}").json()["status"] == "done"
        return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and record; returns the exit code."""
    parser = argparse.ArgumentParser(description="Many clients at once.")
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="opensora-load-") as name:
        folder = Path(name)
        users = Users(folder / "users.json")
        people = [users.add(f"person{n}", f"a long password {n}").name for n in range(-(-chosen.clients // SHARE))]
        keys = [users.new_key(person) for person in people]
        with app(folder, "--users", str(folder / "users.json")) as running:
            with running.watched(0.5) as held:
                asyncio.run(crowd(running, keys[:1], min(chosen.clients, SHARE), 5))  # warm up
                held.clear()
                seen = asyncio.run(crowd(running, keys, chosen.clients, chosen.seconds, refusals=1))
            # everybody's jobs wait in one line, so one person's clip comes when they are gone
            alive = all(lives(running, key) for key in keys)
            held.append(running.held())
    told, good = judged(seen, held, alive)
    return keep("load", {"clients": chosen.clients, "measured_seconds": chosen.seconds, **told}, good, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
