"""Who is let in: owners apart, logins, keys, limits, pages of strangers, and the headers of every answer."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from serving import PASSWORD, Running, serving

from opensora.server.login import local_path, login_router
from opensora.server.rates import network
from opensora.server.settings import Rates, ServerSettings
from opensora.ui.words import told

QUICK = {"prompt": "a red ball", "length": "17f"}


def log_in(
    client: httpx.Client, name: str = "ada", password: str = PASSWORD, next: str = "/v1/videos"
) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password, "next": next})


def test_a_video_belongs_to_its_owner_alone(guarded: Running) -> None:
    with guarded.client("ada") as ada, guarded.client("bob") as bob:
        job = ada.post("/v1/videos", json=QUICK).json()["id"]
        assert guarded.ended(ada, job)["status"] == "done"
        for method, path in (
            ("GET", ""),
            ("GET", "/content"),
            ("GET", "/events"),
            ("POST", "/cancel"),
            ("DELETE", ""),
        ):
            answer = bob.request(method, f"/v1/videos/{job}{path}")
            assert answer.status_code == 404 and answer.json()["error"]["type"] == "not_found"
        assert bob.get("/v1/videos").json()["data"] == []
        assert bob.get("/v1/videos", params={"after": job}).status_code == 404
        assert ada.get(f"/v1/videos/{job}/content").status_code == 200


def test_without_a_key_nothing_but_health_and_the_login_is_answered(guarded: Running) -> None:
    with guarded.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        for path in ("/v1/videos", "/metrics", "/docs", "/openapi.json", "/mcp", "/", "/config", "/files/x/video.mp4"):
            answer = client.get(path)
            assert answer.status_code == 401 and "API key" in answer.json()["error"]["message"], path
        assert client.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        page = client.get("/?a=b", headers={"accept": "text/html"})
        assert page.status_code == 303 and page.headers["location"] == "/login?next=/%3Fa%3Db"


@pytest.mark.parametrize("key", ["os_12345678_x", "os_", "os__", "os_\xe9"])
def test_a_void_key_is_refused(guarded: Running, key: str) -> None:
    with guarded.client() as client:
        answer = client.get("/v1/videos", headers={"Authorization": f"Bearer {key}".encode("latin-1")})
        assert answer.status_code == 401 and "is not known here" in answer.json()["error"]["message"]


def test_a_person_logs_in_and_out(guarded: Running) -> None:
    with guarded.client() as client:
        assert "Log in" in client.get("/login").text
        wrong = log_in(client, password="wrong")
        assert wrong.status_code == 401 and "The name or the password is wrong." in wrong.text and not wrong.cookies
        right = log_in(client)
        assert right.status_code == 303 and right.headers["location"] == "/v1/videos"
        flags = right.headers["set-cookie"].lower()
        assert "httponly" in flags and "samesite=lax" in flags and "secure" not in flags
        assert client.get("/v1/videos").status_code == 200
        assert "logged in as ada" in client.get("/login").text
        client.post("/logout")
        assert client.get("/v1/videos").status_code == 401


def test_a_session_of_another_server_or_a_changed_one_counts_for_nothing(guarded: Running) -> None:
    with guarded.client() as client:
        cookie = log_in(client).cookies["opensora_session"]
    for forged in (cookie[:-2], f"x{cookie}", cookie.replace(".", ".x", 1), '"', "a" * 5000):
        with guarded.client(cookies={"opensora_session": forged}) as client:
            assert client.get("/v1/videos").status_code == 401


def test_a_page_of_strangers_cannot_change_anything(guarded: Running, local: Running) -> None:
    for running in (guarded, local):
        with running.client() as client:
            if running is guarded:
                log_in(client)
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Origin": "http://["},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
            ):
                answer = client.post("/v1/videos", json=QUICK, headers=headers)
                assert answer.status_code == 403 and answer.json()["error"]["type"] == "origin", headers
                assert "access-control-allow-origin" not in answer.headers
            for headers in ({"Origin": running.url}, {"Sec-Fetch-Site": "same-origin", "Origin": "https://a.b"}):
                assert client.post("/v1/videos", json=QUICK, headers=headers).status_code == 201
    with guarded.client("ada") as client:
        assert client.post("/v1/videos", json=QUICK, headers={"Origin": "https://a.b"}).status_code == 201


def test_without_a_login_strangers_names_are_refused(local: Running) -> None:
    with local.client() as client:
        answer = client.get("/v1/videos", headers={"Host": "evil.example:7860"})
        assert answer.status_code == 421 and "--allow-host evil.example" in answer.json()["error"]["message"]
        for host in ("evil.example", "localhost.evil.example", "10.0.0.1", "", "[", "127.0.0.1.evil.example"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 421, host
        for host in ("localhost:7860", "127.0.0.1", "[::1]:1", "LOCALHOST."):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200, host


def test_a_server_that_is_open_to_all_serves_no_programs(tmp_path: Path) -> None:
    with serving(tmp_path, host="0.0.0.0", allow_hosts=("clips.example",)) as running, running.client() as client:
        answer = client.post("/v1/videos", json=QUICK)
        assert answer.status_code == 401 and "--users FILE" in answer.json()["error"]["message"]
        assert client.get("/healthz", headers={"Host": "clips.example"}).status_code == 200
        assert client.get("/healthz", headers={"Host": "10.1.2.3:7860"}).status_code == 200
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
        origin = {"Host": "10.1.2.3", "Origin": "https://clips.example"}
        assert client.post("/v1/videos", headers=origin).json()["error"]["type"] == "authentication"


def test_whoever_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    rates = Rates(requests=5, heavy=3, logins=2)
    with serving(tmp_path, rates=rates) as running, running.client() as client:
        statuses = [client.post("/v1/videos", json={}).status_code for _ in range(4)]
        assert statuses == [422, 422, 422, 429]
        assert [client.get("/v1/videos").status_code for _ in range(2)] == [200, 429]
        refused = client.get("/v1/videos")
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        assert [log_in(client).status_code for _ in range(3)] == [401, 401, 429]
        assert client.get("/healthz").status_code == 200


def test_whoever_brings_too_much_at_once_is_told_when_to_come_again(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"{"

    with serving(tmp_path, rates=Rates(megabytes=3)) as running, running.client() as client:
        head = {"content-type": "application/json"}
        assert client.post("/v1/videos", content=b" " * (2**20 - 2) + b"{}", headers=head).status_code == 422
        assert client.post("/v1/videos", content=b"{}" + b" " * 2**20, headers=head).status_code == 413
        refused = client.post("/v1/videos", json=QUICK)
        assert refused.status_code == 429 and "3 MB of pictures and clips" in refused.json()["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        assert client.get("/v1/videos").status_code == 200
    with serving(tmp_path / "b", rates=Rates(megabytes=3)) as running, running.client() as client:
        assert client.post("/v1/videos", content=pieces(), headers=head).status_code == 429  # it might be 200 MB


def test_addresses_of_one_customer_count_together() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("::ffff:10.0.0.1") == network("10.0.0.1") == "10.0.0.1" and network("somewhere") == "somewhere"


@pytest.mark.parametrize("path", ["/healthz", "/v1/videos", "/login", "/nothing", "/docs"])
def test_every_answer_has_the_headers_of_a_careful_server(local: Running, path: str) -> None:
    with local.client() as client:
        headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
    assert "default-src 'self'" in policy and "frame-ancestors 'self'" in policy and "http" not in policy
    assert headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "javascript:alert(1)", "", "/\nx", "x"],
)
def test_a_login_leads_nowhere_else(target: str) -> None:
    assert local_path(target) == "/"
    assert local_path("/docs?a=b#c") == "/docs?a=b#c"


def test_numbers_for_prometheus_name_no_person_and_no_prompt(guarded: Running) -> None:
    with guarded.client("ada") as client:
        job = client.post("/v1/videos", json=QUICK | {"prompt": "unheard-of"}).json()["id"]
        guarded.ended(client, job)
        client.get(f"/v1/videos/{job}")
        text = client.get("/metrics").text
    assert re.search(r'^opensora_jobs\{state="done"\} [1-9]', text, re.MULTILINE)
    assert "opensora_queue_length 0.0" in text and "opensora_worker_ready 1.0" in text
    assert 'opensora_http_requests_total{method="GET",path="/v1/videos/{id}",status="200"}' in text
    assert not any(secret in text for secret in ("unheard-of", "ada", job, guarded.keys["ada"]))


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"webhook_hosts": ("a.example",)}, "the secret has 0 characters; expected at least 24"),
        ({"webhook_hosts": ("https://a.example",), "webhook_secret": "x" * 24}, "Got 'https://a.example' among"),
        ({"allow_hosts": ("a b",)}, "Got 'a b' among the allowed hosts"),
        ({"rates": {"requests": 0}}, "Got 0 for requests; expected at least 1"),
    ],
)
def test_settings_that_cannot_be_are_sentences(tmp_path: Path, more: dict, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        ServerSettings(tmp_path, **{k: Rates(**v) if k == "rates" else v for k, v in more.items()})


def test_the_login_speaks_the_language_of_the_browser(tmp_path: Path) -> None:
    sessions = SimpleNamespace(users=SimpleNamespace(by_password=lambda name, password: None))
    app = FastAPI()
    app.include_router(login_router(sessions, told))  # type: ignore[arg-type]  # no more is asked of sessions here
    client = TestClient(app)
    answer = client.post("/login", data={"name": "ann", "password": "x"}, headers={"Accept-Language": "ko-KR,ko"})
    assert answer.status_code == 401 and 'lang="ko"' in answer.text and "비밀번호" in answer.text
    assert '<p role="alert">이름 또는 비밀번호가 틀렸습니다.</p>' in answer.text and "password is" not in answer.text
    english = client.post("/login", data={"name": "ann"}, headers={"Accept-Language": "fr"})
    assert 'lang="en"' in english.text and "The name or the password is wrong." in english.text
