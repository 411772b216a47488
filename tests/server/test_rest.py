"""REST over a real connection: every call, its refusals, events as they come, and files that are what they say."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import Running, until

from opensora.pipelines.request import GenerationRequest
from opensora.server import fields
from opensora.server.errors import ApiError
from opensora.server.room import Doorkeeper

QUICK = {"prompt": "a red ball", "length": "17f", "seed": 7}
WAITING = {"prompt": "wait", "length": "17f"}


def make(client: httpx.Client, **more: Any) -> str:
    answer = client.post("/v1/videos", json=QUICK | more)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


VARIANTS = (
    ("gif", "image/gif", b"GIF89a"),
    ("webm", "video/webm", b"\x1aE\xdf\xa3"),
    ("zip", "application/zip", b"PK\x03\x04"),
)


def error(answer: httpx.Response) -> tuple[int, str, str, str | None]:
    said = answer.json()["error"]
    assert set(said) == {"type", "message", "field"}
    return answer.status_code, said["type"], said["message"], said["field"]


def test_the_fields_are_those_of_a_request() -> None:
    own = set(GenerationRequest.__dataclass_fields__)
    assert set(fields.FIELDS) | set(fields.CLOSED) == own and not set(fields.FIELDS) & set(fields.CLOSED)
    defaults = GenerationRequest("x")
    for name, schema in fields.FIELDS.items():
        own_default = getattr(defaults, name)
        wanted = list(own_default) if isinstance(own_default, tuple) else own_default
        assert schema.get("default", None if name != "prompt" else "x") == wanted, name


def test_a_video_is_made_followed_fetched_and_deleted(local: Running) -> None:
    with local.client() as client:
        created = client.post("/v1/videos", json=QUICK)
        view = created.json()
        assert created.status_code == 201 and view["object"] == "video" and len(view["id"]) >= 20
        assert view["request"]["resolution"] == "144p" and view["request"]["seed"] == 7
        done = local.ended(client, view["id"])
        assert done["status"] == "done" and done["progress"] == 100 and done["settings"]["seed"] == 7
        content = client.get(done["files"][0]["url"])
        made = (local.folder / view["id"] / "video.mp4").read_bytes()
        assert content.content == made and content.headers["content-type"] == "video/mp4"
        part = client.get(done["files"][0]["url"], headers={"Range": "bytes=10-19"})
        assert part.status_code == 206 and part.content == made[10:20]
        assert client.get("/v1/videos").json()["data"][0] == done
        for variant, kind, begins in VARIANTS:
            other = client.get(done["files"][0]["url"], params={"index": 0, "variant": variant})
            assert other.headers["content-type"] == kind and other.content.startswith(begins)
            assert (local.folder / view["id"] / f"video.{variant}").read_bytes() == other.content
        assert error(client.get(f"/v1/videos/{view['id']}/content?variant=avi"))[::3] == (422, "variant")
        assert client.delete(f"/v1/videos/{view['id']}").json()["deleted"] is True
        assert not (local.folder / view["id"]).exists()
        assert error(client.get(f"/v1/videos/{view['id']}"))[:2] == (404, "not_found")


def test_events_come_at_every_change_and_end_with_the_job(local: Running) -> None:
    (local.control / "go").unlink(missing_ok=True)
    with local.client() as client:
        job = make(client, **WAITING)
        seen = []
        with client.stream("GET", f"/v1/videos/{job}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:])["status"])
                    (local.control / "go").touch()
    assert seen[-1] == "done" and seen[0] in ("queued", "running")


def test_cancel_stops_and_what_is_unfinished_is_not_deleted(local: Running) -> None:
    (local.control / "go").unlink(missing_ok=True)
    with local.client() as client:
        first, second = make(client, **WAITING), make(client, **WAITING)
        until(lambda: client.get(f"/v1/videos/{first}").json()["status"] == "running")
        assert client.get(f"/v1/videos/{second}").json()["queue_position"] == 1
        status, kind, message, _ = error(client.delete(f"/v1/videos/{first}"))
        assert (status, kind) == (409, "conflict") and "cancel it" in message
        assert error(client.get(f"/v1/videos/{first}/content"))[:2] == (409, "conflict")
        assert client.post(f"/v1/videos/{second}/cancel").json()["status"] == "cancelled"
        client.post(f"/v1/videos/{first}/cancel")
        assert local.ended(client, first)["status"] == "cancelled"
        assert client.post(f"/v1/videos/{first}/cancel").json()["status"] == "cancelled"


def test_lists_have_pages(local: Running) -> None:
    with local.client() as client:
        jobs = [make(client) for _ in range(3)]
        for job in jobs:
            local.ended(client, job)
        page = client.get("/v1/videos", params={"limit": 2}).json()
        assert [view["id"] for view in page["data"]] == [jobs[2], jobs[1]] and page["has_more"] is True
        rest = client.get("/v1/videos", params={"limit": 1, "after": jobs[1]}).json()
        assert [view["id"] for view in rest["data"]] == [jobs[0]]
        assert error(client.get("/v1/videos", params={"limit": 0}))[3] == "limit"
        assert error(client.get("/v1/videos", params={"after": "no"}))[0] == 404


def test_a_failure_is_told_and_the_servers_insides_are_not(local: Running) -> None:
    with local.client() as client:
        flat = local.ended(client, make(client, prompt="flat"))
        assert flat["status"] == "failed" and "the clip is flat" in flat["error"]["message"] and flat["files"] == []
        bug = local.ended(client, make(client, prompt="bug"))
        assert "secret" not in json.dumps(bug)


@pytest.mark.parametrize(
    ("body", "status", "field", "part"),
    [
        ({}, 422, "prompt", "The prompt is missing"),
        ({"prompt": " "}, 422, "prompt", "The prompt is empty"),
        (QUICK | {"length": "17 parsecs"}, 422, "length", "write seconds as 2s"),
        (QUICK | {"steps": True}, 422, "steps", "a whole number from 1 to 1000"),
        (QUICK | {"model": "sora"}, 422, "model", "tiny"),
        (QUICK | {"colour": "red"}, 422, "colour", "There is no field 'colour'"),
        (QUICK | {"reference_image": "/etc/passwd"}, 422, "reference_image", "Send the file itself"),
        (QUICK | {"reference_image": "http://127.0.0.1/x"}, 422, "reference_image", "Send the file itself"),
        (QUICK | {"loras": [["/x", 1]]}, 422, "loras", "This server offers no LoRAs"),
        (QUICK | {"loras": "/x"}, 422, "loras", "expected a list of names"),
        (QUICK | {"text_dtype": "fp8"}, 422, "text_dtype", "choose one of fp32, bf16, int8, nf4"),
        (QUICK | {"priority": "urgent"}, 422, "priority", "'urgent'; choose one of low, normal, high"),
        (QUICK | {"priority": 1}, 422, "priority", "Got the priority 1"),
        (QUICK | {"device": "cuda"}, 422, "device", "The server chooses"),
        (QUICK | {"webhook_url": "https://example.com"}, 422, "webhook_url", "--webhook-host"),
        ([], 422, "body", "expected a JSON object"),
        (7, 422, "body", "expected a JSON object"),
    ],
)
def test_what_cannot_be_made_names_the_field(local: Running, body: Any, status: int, field: str, part: str) -> None:
    with local.client() as client:
        found = error(client.post("/v1/videos", json=body))
        assert found[0] == status and found[3] == field and part in found[2], found


@pytest.mark.parametrize(
    ("content", "kind", "status", "part"),
    [
        (b"{", "application/json", 400, "The body is no JSON"),
        (b"[" * 100_000, "application/json", 400, "The body is no JSON"),
        (b"\xff\xfe", "application/json", 400, "The body is no JSON"),
        (b'"' + b"x" * 2**20 + b'"', "application/json", 413, "larger than 1024 KB"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "send application/json"),
        (b"--x", "multipart/form-data", 400, "cannot be read"),
        (b"", "text/plain", 415, "send application/json"),
    ],
)
def test_a_body_that_is_none_is_a_sentence(local: Running, content: bytes, kind: str, status: int, part: str) -> None:
    with local.client() as client:
        found = error(client.post("/v1/videos", content=content, headers={"content-type": kind}))
        assert found[0] == status and part in found[2], found


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 36)) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(data, kind)
    return data.getvalue()


def test_a_picture_comes_as_a_part_of_the_body(local: Running) -> None:
    with local.client() as client:
        sent = {"reference_image": ("../../x.sh", picture("JPEG"), "text/plain")}
        answer = client.post("/v1/videos", data={"request": json.dumps(QUICK)}, files=sent)
        assert answer.status_code == 201, answer.text
        assert local.ended(client, answer.json()["id"])["status"] == "done"
        assert not list(local.folder.parent.rglob("x.sh"))


@pytest.mark.parametrize(
    ("files", "field", "part"),
    [
        ({"reference_image": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, "reference_image", "no picture"),
        ({"reference_image": b"http://127.0.0.1/x.png"}, "reference_image", "no picture"),
        ({"reference_image": picture()[:60]}, "reference_image", "cannot be read"),
        ({"picture": picture()}, "picture", "Got the part 'picture'"),
    ],
)
def test_what_is_no_picture_is_refused(local: Running, files: dict[str, bytes], field: str, part: str) -> None:
    with local.client() as client:
        answer = client.post("/v1/videos", data={"request": json.dumps(QUICK)}, files=files)
        assert error(answer)[0] == 422 and error(answer)[3] == field and part in error(answer)[2]


def test_the_interface_is_described_and_its_page_loads_nothing_from_elsewhere(local: Running) -> None:
    with local.client() as client:
        told = client.get("/openapi.json").json()
        body = told["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert set(body["properties"]) == {*fields.FIELDS, "priority", "webhook_url"}
        page = client.get("/docs")
        assert page.status_code == 200 and "https://" not in page.text
        assert len(client.get("/docs/static/swagger-ui-bundle.js").content) > 10**6


@pytest.fixture(scope="module")
def one_client(local: Running) -> Iterator[httpx.Client]:
    with local.client() as client:
        yield client


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
bodies = st.dictionaries(st.sampled_from([*fields.FIELDS, *fields.CLOSED, "webhook_url", "x"]), values, max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(body=bodies | bodies.map(lambda body: QUICK | {"prompt": "flat"} | body) | values)
def test_no_body_makes_the_server_fail(one_client: httpx.Client, body: Any) -> None:
    content = json.dumps(body)
    answer = one_client.post("/v1/videos", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (201, 422, 429), answer.text
    if answer.status_code != 201:
        error(answer)


def test_a_hash_stands_beside_a_file_that_has_one() -> None:
    from dataclasses import replace

    from opensora.jobs.queue import JobState, JobView
    from opensora.server.videos import describe

    digest = hashlib.sha256(b"x").hexdigest()
    view = JobView("id", "me", GenerationRequest("x"), JobState.DONE, files=(Path("video.mp4"),), sha256=(digest,))
    assert describe(view)["files"][0]["sha256"] == digest
    assert describe(replace(view, sha256=()))["files"][0]["sha256"] is None


def test_what_does_not_fit_is_refused_with_what_would(local: Running, full: None) -> None:
    with local.client() as client:
        before = len(client.get("/v1/videos").json()["data"])
        status, kind, message, field = error(client.post("/v1/videos", json=QUICK | {"length": "65f"}))
        assert (status, kind, field) == (422, "does_not_fit", "request")
        assert "of memory" in message and "are free now. Close other programs." in message
        assert "What would fit: " in message and "Set the length to 17f instead of 65f." in message
        assert len(client.get("/v1/videos").json()["data"]) == before
        assert client.post("/v1/videos", json=QUICK).status_code == 201


def test_where_other_machines_make_the_clips_this_ones_memory_does_not_count(tmp_path: Path, full: None) -> None:
    request = GenerationRequest("a red ball", length="65f")
    assert Doorkeeper(tmp_path, here=False).require(request).resolution == "144p"
    with pytest.raises(ApiError, match="are free now"):
        Doorkeeper(tmp_path).require(request)


def test_while_one_refusal_is_worked_out_another_is_short(tmp_path: Path, full: None) -> None:
    door = Doorkeeper(tmp_path)
    with door._searching, pytest.raises(ApiError) as caught:
        door.require(GenerationRequest("a red ball", length="65f"))
    assert str(caught.value).endswith("Close other programs.")
