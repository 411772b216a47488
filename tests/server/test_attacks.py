"""The attack shapes that were published against Gradio apps, against the whole server with the page in it."""

import io
import json
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from serving import Running, serving, users_file

from opensora.server.fields import FIELDS, UPLOADS

SECRET = "the contents of a file that nobody may see"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The whole server without a login, with a secret beside and in the folder of the results."""
    folder = tmp_path_factory.mktemp("paged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        with serving(folder, page=True) as running:
            (folder / "secret.txt").write_text(SECRET)
            (folder / "secret.mp4").write_text(SECRET)
            (running.folder / ".hidden").mkdir()
            (running.folder / ".hidden" / "secret.mp4").write_text(SECRET)
            yield running


def raw(running: Running, path: str, method: str = "GET") -> httpx.Response:
    """A request whose path is sent as it is."""
    with httpx.Client(timeout=60, verify=False) as client:
        url = httpx.URL(running.url).copy_with(raw_path=path.encode())
        return client.send(client.build_request(method, url))


def reaches(folder: Path) -> list[str]:
    """Ways to write the path of the secret, and of files of the machine and the program."""
    secret = str(folder / "secret.txt")
    up = "../" * 12
    return [
        secret,
        f"/{secret}",
        f"{up}{secret}",
        urllib.parse.quote(f"{up}{secret}", safe=""),
        urllib.parse.quote(urllib.parse.quote(f"{up}{secret}", safe=""), safe=""),
        f"{up}etc/passwd".replace("/", "%2f"),
        "/etc/passwd",
        "%2e%2e/" * 12 + "etc/passwd",
        "..%5c" * 12 + "etc%5cpasswd",
        "....//" * 8 + "etc/passwd",
        "app.py",
        "./app.py",
        "outputs/.server.json",
        str(folder / "outputs" / ".server.json"),
        str(folder / "outputs" / ".hidden" / "secret.mp4"),
        "file:///etc/passwd",
        "/proc/self/environ",
        "x%00.mp4",
    ]


@pytest.mark.parametrize(
    "prefix",
    [
        "/files/",
        "/files/x/",
        "/posters/",
        "/gradio_api/file=",
        "/gradio_api/file/",
        "/file=",
        "/assets/",
        "/static/",
        "/svelte/",
        "/docs/static/",
        "/v1/videos/",
        "/gradio_api/custom_component/1/client/component/",
        "/",
    ],
)
def test_no_path_leads_to_a_file_of_the_server(paged: Running, prefix: str) -> None:
    for path in reaches(paged.folder.parent):
        answer = raw(paged, prefix + path)
        assert answer.status_code < 500, (prefix, path)
        found = answer.text
        assert SECRET not in found and "root:" not in found and '"session"' not in found, (prefix, path)
        assert "def main(" not in found, (prefix, path)
        assert answer.status_code >= 400 or "<!doctype html" in found.lower(), (prefix, path)


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Another server of this machine, which must not be asked by the first."""
    with serving(tmp_path_factory.mktemp("inside")) as running:
        yield running


def test_the_server_asks_no_other_server(paged: Running, inside: Running) -> None:
    with inside.client() as client:
        count = asked(client)
    target = f"{inside.url}/v1/videos"
    quoted = urllib.parse.quote(target, safe="")
    for path in (
        f"/gradio_api/file={target}",
        f"/gradio_api/file={quoted}",
        f"/gradio_api/file=%20{quoted}",
        f"/gradio_api/file/{target}",
        f"/gradio_api/proxy={target}",
        f"/gradio_api/proxy={quoted}",
        f"/proxy={target}",
        f"/file={target}",
        f"/gradio_api/file=HTTP://127.0.0.1:{httpx.URL(target).port}/v1/videos",
    ):
        answer = raw(paged, path)
        assert answer.status_code in (400, 403, 404), (path, answer.status_code)
    with inside.client() as client:
        assert asked(client) == count


def asked(client: httpx.Client) -> str:
    """The line that counts requests for the list of videos."""
    lines = client.get("/metrics").text.splitlines()
    return next((line for line in lines if 'path="/v1/videos"' in line and 'method="GET"' in line), "none")


def test_no_event_of_the_page_opens_a_path_or_an_address_that_was_sent(paged: Running, inside: Running) -> None:
    """Gradio copies a named file into its uploads, where it is served, for any value of any component; we refuse."""
    uploads = paged.folder.parent / "uploads"
    before = set(uploads.rglob("*"))
    named = ("/etc/passwd", str(paged.folder.parent / "secret.txt"), "app.py", f"{inside.url}/healthz", "x\0y")
    with paged.client() as client:
        dependencies = client.get("/config").json()["dependencies"]
        for number, dependency in enumerate(dependencies):
            target = named[number % len(named)]
            data = {"path": target, "url": target, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
            for value in (data, {"owner": "x", "job": None, "deep": [{"er": data}]}):
                body = {"data": [value] * len(dependency["inputs"]), "fn_index": dependency["id"], "session_hash": "y"}
                answer = client.post("/gradio_api/run/predict", json=body)
                assert SECRET not in answer.text
    assert set(uploads.rglob("*")) == before and len(dependencies) > 20


def test_a_file_that_was_uploaded_is_taken_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr
    from gradio.exceptions import InvalidPathError

    from opensora.ui.given_files import check

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads" / "a").mkdir(parents=True)
    (tmp_path / "uploads" / "a" / "x.png").touch()
    (tmp_path / "uploads" / "a" / "link.png").symlink_to("/etc/passwd")
    image, text = gr.Image(), gr.Textbox()
    good = {"path": str(tmp_path / "uploads" / "a" / "x.png")}
    check([image, text], [good, "path"])
    check([image], [None])
    for components, values in (
        ([text], [good]),
        ([], [good]),
        ([image], [{"path": str(tmp_path / "uploads" / "a" / "link.png")}]),
        ([image], [{"path": str(tmp_path / "uploads" / ".." / "x.png")}]),
        ([image], [{"path": str(tmp_path / "uploads")}]),
        ([image], [[{"x": {"path": "https://example.com/x.png"}}]]),
    ):
        with pytest.raises(InvalidPathError, match="was not uploaded here"):
            check(components, values)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/vibe-code",
        "/gradio_api/dev/reload",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/runs",
        "/gradio_api/component_server",
        "/gradio_api/deep_link",
        "/gradio_api/stream/x/1/2/playlist.m3u8",
    ],
)
def test_what_the_page_does_not_use_is_closed(paged: Running, path: str) -> None:
    for method in ("GET", "POST"):
        assert raw(paged, path, method).status_code in (404, 405)


def test_the_queue_opens_no_path_that_was_sent_either(paged: Running) -> None:
    """The same by the queue, which pages use, and by the calls of programs."""
    uploads = paged.folder.parent / "uploads"
    before = set(uploads.rglob("*"))
    secret = str(paged.folder.parent / "secret.txt")
    data = {"path": secret, "url": secret, "meta": {"_type": "gradio.FileData"}}
    with paged.client() as client:
        for number, dependency in enumerate(client.get("/config").json()["dependencies"][:12]):
            session = f"queue{number}"
            body = {
                "data": [data] * len(dependency["inputs"]),
                "fn_index": dependency["id"],
                "session_hash": session,
            }
            if client.post("/gradio_api/queue/join", json=body).status_code != 200:
                continue
            with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
                for line in stream.iter_lines():
                    assert SECRET not in line
                    if "process_completed" in line or "close_stream" in line:
                        break
        count = len(FIELDS) + 2 + len(UPLOADS)
        called = client.post("/gradio_api/call/generate_video", json={"data": [data] * count})
        assert SECRET not in called.text
    assert set(uploads.rglob("*")) == before


def test_no_other_site_may_read_or_change_anything_of_the_page(paged: Running) -> None:
    """Gradio trusts every origin of the machine itself, and any origin where the server has another name."""
    with paged.client() as client:
        for origin in ("https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:1", "file://"):
            for method, path in (
                ("POST", "/gradio_api/queue/join"),
                ("POST", "/gradio_api/upload"),
                ("POST", "/gradio_api/run/predict"),
                ("GET", "/config"),
                ("OPTIONS", "/gradio_api/queue/join"),
            ):
                asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
                answer = client.request(method, path, headers=asked, json={} if method == "POST" else None)
                assert not [name for name in answer.headers if name.startswith("access-control-")], (origin, method)
                assert method != "POST" or answer.status_code == 403, (origin, path)


@pytest.mark.parametrize(
    "path",
    [
        "/login/huggingface",
        "/login/callback?_target_url=https://evil.example",
        "/logout?_target_url=https://evil.example",
        "/gradio_api/login/huggingface",
        "/?__sign=x&_target_url=//evil.example",
    ],
)
def test_gradios_stand_in_for_a_login_is_not_there_and_nothing_leads_elsewhere(paged: Running, path: str) -> None:
    answer = raw(paged, path)
    assert answer.status_code in (200, 404, 405) and "set-cookie" not in answer.headers
    assert "location" not in answer.headers


def test_an_upload_that_is_too_large_is_refused(paged: Running) -> None:
    with paged.client() as client:
        answer = client.post("/gradio_api/upload", files={"files": ("x.png", bytes(65 * 2**20))})
        assert answer.status_code == 413
        assert client.post("/v1/videos", content=bytes(2**20 + 1), headers=JSON).status_code == 413


@pytest.mark.parametrize("where", ["/gradio_api/upload", "/v1/videos"])
@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        ("x" * 5000, b"--" + b"x" * 5000 + b"-" * 10**6),
        ("x", b"--x" + b"-" * 10**6),
        ("x", b"--x\r\n" + b"a: b\r\n" * 20_000),
        ("x", b'--x\r\ncontent-disposition: form-data; name="' + b"y" * 10**6),
        ("", b"--\r\n"),
    ],
)
def test_a_body_that_was_made_to_be_slow_stores_nothing_and_the_server_goes_on(
    paged: Running, where: str, boundary: str, body: bytes
) -> None:
    with paged.client() as client:
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        answer = client.post(where, content=body, headers=kind)
        assert answer.status_code in (400, 413, 422, 431) or (answer.status_code == 200 and answer.json() == [])
        assert client.get("/healthz").status_code == 200


def test_nothing_that_is_uploaded_is_unpacked(paged: Running) -> None:
    """An archive whose names lead outside is stored as it is; nothing here opens archives."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("../../../slipped.txt", "x")
    with paged.client() as client:
        for name in ("x.zip", "x.png"):
            stored = Path(client.post("/gradio_api/upload", files={"files": (name, data.getvalue())}).json()[0])
            assert stored.is_file() and {path.name for path in stored.parent.iterdir()} <= {"x.zip", "x.png"}
        sent = {"reference_image": ("x.png", data.getvalue(), "image/png")}
        request = {"request": json.dumps({"prompt": "a", "length": "17f"})}
        assert client.post("/v1/videos", data=request, files=sent).status_code == 422
    assert not list(paged.folder.parent.rglob("slipped.txt"))


def test_an_uploaded_page_is_not_shown_as_one(paged: Running) -> None:
    script = b"<html><script>alert(1)</script></html>"
    with paged.client() as client:
        for name in ("x.html", "x.svg", "../../x.html", "x.mp4"):
            stored = client.post("/gradio_api/upload", files={"files": (name, script, "text/html")})
            assert stored.status_code == 200
            path = Path(stored.json()[0])
            assert path.is_relative_to(paged.folder.parent / "uploads")
            answer = client.get(f"/gradio_api/file={path}")
            kind, how = answer.headers["content-type"], answer.headers.get("content-disposition", "")
            assert ("html" not in kind and "svg" not in kind) or how.startswith("attachment"), (name, kind, how)
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_html_in_a_prompt_stays_text(paged: Running) -> None:
    hostile = "a red ball <img src=x onerror=alert(1)>"
    with paged.client() as client:
        job = client.post("/v1/videos", json={"prompt": hostile, "length": "17f"}).json()["id"]
        answer = client.get(f"/v1/videos/{job}")
        assert answer.headers["content-type"] == "application/json" and answer.json()["prompt"] == hostile
        assert client.get(f"/v1/videos/{hostile}").headers["content-type"] == "application/json"
        paged.ended(client, job)


def test_no_folder_is_listed(paged: Running) -> None:
    for path in ("/files", "/files/", "/posters/", "/docs/static/", "/gradio_api/file=", "/assets/", "/static/"):
        answer = raw(paged, path)
        assert answer.status_code >= 400, path


def test_with_a_login_a_clip_opens_for_its_person_alone(tmp_path: Path) -> None:
    keys = users_file(tmp_path / "users.json", "ada", "bob")
    users = tmp_path / "users.json"
    with (
        serving(tmp_path, page=True, keys=keys, users=users) as running,
        running.client("ada") as ada,
        running.client("bob") as bob,
        running.client() as nobody,
    ):
        job = ada.post("/v1/videos", json={"prompt": "a boat", "length": "17f"}).json()["id"]
        running.ended(ada, job)
        assert ada.get(f"/files/{job}/video.mp4").status_code == 200
        assert ada.get(f"/posters/{job}/video.mp4").status_code == 200
        for path in ("files", "posters"):
            assert bob.get(f"/{path}/{job}/video.mp4").status_code == 404
            assert nobody.get(f"/{path}/{job}/video.mp4").status_code == 401
        assert nobody.get("/config").status_code == 401 and ada.get("/config").status_code == 200


def test_the_named_functions_of_the_page_have_fixed_schemas(paged: Running) -> None:
    with paged.client() as client:
        named = client.get("/gradio_api/info").json()["named_endpoints"]
    found = {name: [p["parameter_name"] for p in told["parameters"]] for name, told in named.items()}
    assert found == {
        "/generate_video": [*FIELDS, "priority", "webhook_url", *UPLOADS],
        "/video_status": ["id"],
        "/video_result": ["id"],
        "/cancel_video": ["id"],
    }


def test_gradio_client_makes_a_video(paged: Running, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(paged.url, verbose=False)
    Image.new("RGB", (256, 144), "seagreen").save(tmp_path / "first.png")
    given = client.predict(
        prompt="a red ball",
        length="17f",
        aesthetic_score=6.5,
        reference_image=handle_file(tmp_path / "first.png"),
        api_name="/generate_video",
    )
    assert given["request"]["cond_type"] == "i2v_head" and given["request"]["aesthetic_score"] == 6.5
    made = client.predict(prompt="a red ball", length="17f", seed=7, api_name="/generate_video")
    with paged.client() as http:
        paged.ended(http, made["id"])
        result = client.predict(id=made["id"], api_name="/video_result")
        assert result["status"] == "done" and http.get(result["files"][0]["url"]).content[4:8] == b"ftyp"
    assert client.predict(id=made["id"], api_name="/video_status")["settings"]["seed"] == 7
    with pytest.raises(AppError, match="write seconds as 2s"):
        client.predict(prompt="a red ball", length="17 parsecs", api_name="/generate_video")
    with pytest.raises(AppError, match="There is no such video"):
        client.predict(id="x", api_name="/cancel_video")
    assert json.dumps(result)


def test_gradio_client_is_told_what_would_fit(paged: Running, full: None) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(paged.url, verbose=False)
    with pytest.raises(AppError, match=r"of memory.* What would fit: .*17f instead of 65f"):
        client.predict(prompt="a red ball", length="65f", api_name="/generate_video")
