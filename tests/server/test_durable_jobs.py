"""The server over the real queue: a worker process makes the clip, and a restart of both changes nothing."""

import hashlib
import os
from pathlib import Path

import fake_jobs
import httpx
import pytest
from serving import serving, until, users_file

from opensora.jobs.durable import DurableQueue

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(600)


def durable(outputs: Path) -> DurableQueue:
    return DurableQueue(outputs, fake_jobs.GENERATE)


def ready(client: httpx.Client) -> bool:
    answer = client.get("/readyz")
    assert answer.status_code == 200 or "worker" in answer.json()["reason"]
    return answer.status_code == 200


def test_a_priority_orders_ones_own_videos_and_no_others(tmp_path: Path) -> None:
    keys = users_file(tmp_path / "users.json", "ada", "bob")
    users = tmp_path / "users.json"

    def without_worker(outputs: Path) -> DurableQueue:
        return DurableQueue(outputs, fake_jobs.GENERATE, gpus=())

    with serving(tmp_path, keys=keys, make_queue=without_worker, users=users) as running:
        made = {}
        for user, name, priority in ORDERED:
            with running.client(user) as client:
                body = {"prompt": "a red ball", "length": "17f"} | ({"priority": priority} if priority else {})
                answer = client.post("/v1/videos", json=body)
                assert answer.json()["priority"] == (priority or "normal")
                made[name] = user, answer.json()["id"]
        places = {}
        for name, (user, job) in made.items():
            with running.client(user) as client:
                places[name] = client.get(f"/v1/videos/{job}").json()["queue_position"]
                schema = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
        assert sorted(places, key=places.get) == ["ada high", "bob 1", "ada 1", "bob 2", "ada 2", "ada low"]  # type: ignore[arg-type]
        assert schema["application/json"]["schema"]["properties"]["priority"]["enum"] == ["low", "normal", "high"]


ORDERED = (
    ("ada", "ada low", "low"),
    ("ada", "ada 1", None),
    ("bob", "bob 1", None),
    ("bob", "bob 2", "normal"),
    ("ada", "ada 2", "normal"),
    ("ada", "ada high", "high"),
)


def test_a_video_outlives_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(TESTS), str(TESTS.parent))))
    with serving(tmp_path, make_queue=durable) as running, running.client() as client:
        until(lambda: ready(client), 300)
        body = {"prompt": "a red ball", "length": "17f", "num_videos": 2}
        job = client.post("/v1/videos", json=body).json()["id"]
        until(lambda: client.get(f"/v1/videos/{job}").json()["status"] == "done", 300)
        text = client.get("/metrics").text
        assert 'opensora_stage_seconds_sum{stage="sampling"} 0.5' in text and 'opensora_jobs{state="done"} 1.0' in text
    with serving(tmp_path, make_queue=durable) as running, running.client() as client:
        files = client.get(f"/v1/videos/{job}").json()["files"]
        assert [file["index"] for file in files] == [0, 1] and files[0]["sha256"] != files[1]["sha256"]
        for file in files:
            answer = client.get(file["url"])
            assert hashlib.sha256(answer.content).hexdigest() == file["sha256"] == answer.headers["etag"].strip('"')
        assert client.get(f"/v1/videos/{job}/content", params={"index": 2}).status_code == 404
        assert client.delete(f"/v1/videos/{job}").status_code == 200
        assert not (running.folder / job).exists() and client.get("/v1/videos").json()["data"] == []
