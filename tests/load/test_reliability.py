"""Short versions of what ``benchmarks/reliability`` does for hours, and how it judges what it sees."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import strategies as st

from benchmarks.reliability import chaos, load, record, soak
from benchmarks.reliability.fuzz import Application, Found, fuzz, parse, run
from benchmarks.reliability.load import Seen, crowd, lives
from benchmarks.reliability.parsers import Parser
from benchmarks.reliability.requests_of import Call
from benchmarks.reliability.running import Held, Running, app, slope
from opensora.server.users import Users

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    folder = tmp_path_factory.mktemp("people")
    users = Users(folder / "users.json")
    yield [str(folder), *(users.new_key(users.add(name, "correct horse").name) for name in ("ada", "bob"))]


@pytest.fixture(scope="module")
def running(keys: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with app(tmp_path_factory.mktemp("app"), "--users", str(Path(keys[0]) / "users.json")) as running:
        yield running


def test_a_crowd_is_served_and_what_is_too_much_is_refused_clearly(running: Running, keys: list[str]) -> None:
    with running.watched(0.5) as held:
        seen = asyncio.run(crowd(running, keys[1:], 20, 2.0, refusals=1))
    told, _ = load.judged(seen, held, lives(running, keys[1]) and lives(running, keys[2]))
    assert told["failures"] == {} and told["unclear_refusals"] == [] and told["alive_afterwards"]
    assert set(seen.statuses["page"]) == {"200"} and seen.refused > 0


def test_jobs_come_and_go_and_leave_nothing_behind(running: Running, keys: list[str]) -> None:
    headers = {"Authorization": f"Bearer {keys[1]}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=300) as http:
        for view in http.get("/v1/videos", params={"limit": 100}).json()["data"]:
            soak.asked(http, "DELETE", f"/v1/videos/{view['id']}")
        soak.round_of(http, 0)
        before = running.held()
        assert [soak.round_of(http, number) for number in range(2)] == ["done", "done"]
        after = running.held()
        assert http.get("/v1/videos").json()["data"] == []
    assert after.handles <= before.handles + soak.MORE_HANDLES and after.server < before.server + 20


def test_a_thousand_cases_and_fifty_uploads_find_nothing(tmp_path: Path) -> None:
    found = fuzz(tmp_path, 1000, 50, page=False)
    assert found.defects == []
    assert sum(found.cases.values()) >= 1000 and found.cases["upload"] >= 50 and found.cases["endpoint"] >= 200


def test_what_crashes_is_found(tmp_path: Path) -> None:
    def crashes(value: int) -> object:
        return 1 // (value % 3)

    found = Found()
    parse([Parser("division", st.integers(0, 9), crashes)], 30, found)
    assert found.cases["division"] >= 10 and any("ZeroDivisionError" in text for text in found.defects)


def test_an_answer_of_500_and_a_crash_of_an_endpoint_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    application, found = Application(tmp_path, page=False), Found()
    try:
        monkeypatch.setattr(application.queue, "jobs", lambda owner: 1 // 0)
        application.ask(Call("GET", "/v1/videos"), found, "endpoint")
        application.ask(Call("GET", "/healthz"), found, "endpoint")
    finally:
        application.close()
    assert len(found.defects) == 1 and "ZeroDivisionError" in found.defects[0] and found.statuses["200"] == 1


def test_the_same_number_gives_the_same_cases() -> None:
    seen: list[list[int]] = [[], [], []]
    for values, number in zip(seen, (1, 1, 2), strict=True):
        run(st.integers(), values.append, 20, number)
    assert seen[0] == seen[1] != seen[2]


def looks(growth: float, handles: int = 0, count: int = 20) -> list[Held]:
    """A minute of looks at a server that grows by ``growth`` MB a minute, with one outlier."""
    found = [Held(3.0 * n, 100 + growth * n / 20, 200.0, 50 + handles * n // count) for n in range(count)]
    found[7] = Held(found[7].at, 400.0, 200.0, 50)
    return found


@pytest.mark.parametrize(("growth", "handles", "good"), [(0.9, 0, True), (1.1, 0, False), (0.0, 10, False)])
def test_a_server_that_grows_or_keeps_files_open_does_not_pass(growth: float, handles: int, good: bool) -> None:
    told, passed = soak.judged({"done": 9}, looks(growth, handles), 0)
    assert passed is good and told["megabytes_a_minute"]["server"] == pytest.approx(growth, abs=0.02)
    assert not soak.judged({"done": 9, "failed": 1}, looks(0), 0)[1]


def test_growth_is_that_of_the_line_through_the_points() -> None:
    assert slope([(0.0, 5.0), (60.0, 7.0), (120.0, 9.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 5.0)]) == 0.0


def answers(status: int, text: str = "", **headers: str) -> httpx.Response:
    return httpx.Response(status, text=text, headers=headers)


@pytest.mark.parametrize(
    ("kind", "answer", "good"),
    [
        ("submit", answers(429, '{"error": {"message": "m"}}', **{"retry-after": "3"}), True),
        ("submit", answers(429, '{"error": {"message": "m"}}'), False),
        ("poll", answers(503, "busy", **{"retry-after": "3"}), False),
        ("list", answers(500, "oh"), False),
        ("page", answers(404, "oh"), False),
    ],
)
def test_only_clear_refusals_pass(kind: str, answer: httpx.Response, good: bool) -> None:
    seen = Seen()
    seen.take("page", answers(200), 0.1)
    seen.take("submit", answers(429, '{"error": {"message": "m"}}', **{"retry-after": "3"}), 0.1)
    seen.take(kind, answer, 0.1)
    assert load.judged(seen, looks(0), True)[1] is good
    assert not load.judged(seen, looks(0), False)[1]


def test_results_name_machine_date_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert record.keep("x", {"a": Counter({"b": 1})}, True, tmp_path / "x.json") == 0
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["passed"] and told["a"] == {"b": 1} and told["machine"]["processors"] and "UTC" in told["date"]
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    assert record.keep("y", {}, False) == 1 and (tmp_path / "reliability_y.json").is_file()


def test_the_rounds_of_kills_are_asked_for_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    def ran(words: list[str], **options: object) -> object:
        seen.update(options["env"])  # type: ignore[call-overload]
        return type("Done", (), {"returncode": 0, "stdout": "2 passed in 3s\n"})

    monkeypatch.setattr(chaos.subprocess, "run", ran)
    assert chaos.main(["--rounds", "7", "--seed", "5", "--json", str(tmp_path / "x.json")]) == 0
    assert seen["OPENSORA_CHAOS_ROUNDS"] == "7" and seen["OPENSORA_CHAOS_SEED"] == "5"
    assert json.loads((tmp_path / "x.json").read_text())["tests"] == "2 passed in 3s"
