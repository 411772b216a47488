"""The page in its application: results by their unguessable address and nothing else, no outside addresses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from memory_queue import MemoryQueue

from opensora.datasets.video_io import write_mp4
from opensora.ui.layout import create_demo
from opensora.ui.web import add_page


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing is generated here")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "outputs"
    (folder / "job").mkdir(parents=True)
    write_mp4(folder / "job" / "video.mp4", np.zeros((17, 16, 16, 3), np.uint8), 24, {})
    (folder / "job" / "notes.txt").write_text("not a result")
    (folder / "job" / ".video.mp4").write_text("half written")
    (folder.parent / "secret.mp4").write_text("outside")
    (folder / "job" / "link.mp4").symlink_to(folder.parent / "secret.mp4")
    return folder


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    queue = MemoryQueue(nothing, root)
    with TestClient(add_page(FastAPI(), queue, root)) as client:
        yield client
    queue.close()


def test_a_result_is_served_whole_and_in_parts(client: TestClient, root: Path) -> None:
    whole = client.get("/files/job/video.mp4")
    assert whole.headers["content-type"] == "video/mp4" and whole.headers["cache-control"].startswith("private")
    assert whole.content == (root / "job" / "video.mp4").read_bytes()
    part = client.get("/files/job/video.mp4", headers={"Range": "bytes=0-99"})
    assert part.status_code == 206 and part.content == whole.content[:100]
    assert client.get("/posters/job/video.mp4").headers["content-type"] == "image/jpeg"


def test_another_form_is_written_when_somebody_asks_and_then_kept(client: TestClient, root: Path) -> None:
    for kind, media in (("gif", "image/gif"), ("webm", "video/webm"), ("zip", "application/zip")):
        answer = client.get(f"/forms/job/video.{kind}")
        assert answer.headers["content-type"] == media
        assert f'filename="opensora-video.{kind}"' in answer.headers["content-disposition"]
        file = root / "job" / f"video.{kind}"
        assert file.read_bytes() == answer.content
        file.write_bytes(b"kept")
        assert client.get(f"/forms/job/video.{kind}").content == b"kept"
        file.unlink()


@pytest.mark.parametrize(
    "path",
    [
        "/files/job/notes.txt",
        "/files/job/video.gif",
        "/forms/job/video.mp4",
        "/forms/job/none.gif",
        "/forms/job/link.gif",
        "/forms/job/..%2f..%2fsecret.gif",
        "/forms/../secret.gif",
        "/files/job/.video.mp4",
        "/files/job/link.mp4",
        "/files/job/none.mp4",
        "/files/../secret.mp4",
        "/files/%2e%2e/secret.mp4",
        "/files/job/..%2f..%2fsecret.mp4",
        "/files/..%2f..%2fetc/passwd",
        "/posters/job/link.mp4",
        "/posters/job/notes.txt",
        "/files/job",
        "/files/",
    ],
)
def test_nothing_but_results_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_page_names_no_outside_address_to_load_from(client: TestClient) -> None:
    html = client.get("/").text
    loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](https?:[^"']+)""", html)
    assert [address for address in loaded if "testserver" not in address] == []
    css = client.get("/theme.css").text
    assert re.findall(r"(?:@import|url\()\s*['\"]?https?:", css) == []


def test_no_function_of_the_page_is_an_api(client: TestClient) -> None:
    info = client.get("/gradio_api/info").json()
    assert info["named_endpoints"] == {}


def test_no_event_waits_in_the_stream_that_gradio_closes_between_events(root: Path) -> None:
    queue = MemoryQueue(nothing, root)
    demo = create_demo(queue)
    queue.close()
    assert [fn.name for fn in demo.fns.values() if fn.queue is not False] == []
