"""The picture that a clip begins with is part of its job: hashed and listed, and served and shown from there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pipelines.bundles_v2 import write_bundle, write_flux

from opensora.jobs import attempt, given, views
from opensora.jobs.attempt import Workplace
from opensora.jobs.board import Board
from opensora.jobs.places import Places, read_manifest, sha256
from opensora.jobs.queue import JobView
from opensora.jobs.record import Record
from opensora.jobs.storage import open_storage
from opensora.jobs.store import sqlite
from opensora.pipelines.build import release_models
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.video import generate
from opensora.server.videos import describe
from opensora.ui import render
from opensora.ui.again import went_on
from opensora.ui.words import of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JobView, Places]]:
    """A finished job of two small networks, of which one painted its picture."""
    folder = tmp_path_factory.mktemp("painted")
    request = GenerationRequest(
        "a red ball",
        model=write_bundle(folder / "video"),
        picture_model=write_flux(folder / "picture"),
        length="5f",
        steps=2,
        seed=3,
    ).validated()
    places = Places(folder / "out")
    places.given("job", 0).mkdir(parents=True)
    board = Board(sqlite(places.database))
    board.add([Record("job", "me", given.pack(request, places.given("job", 0)), created=1.0)])
    storage = open_storage(places, None)
    assert attempt.run("job", 1, Workplace(places, board, storage, generate, "worker")) is not None
    yield views.of(board.some(["job"])[0], places, None, None), places  # type: ignore[arg-type]  # nothing runs
    board.close()
    release_models()


def test_it_is_a_file_of_the_job_with_its_hash(made: tuple[JobView, Places]) -> None:
    view, places = made
    assert [file.name for file in view.files] == ["video.mp4", "video-picture.png"] and view.error is None
    assert [sha256(file) for file in view.files] == list(view.sha256)
    files = [(file["role"], file["content_type"], file["url"]) for file in describe(view)["files"]]
    assert files == [
        ("clip", "video/mp4", "/v1/videos/job/content?index=0"),
        ("picture", "image/png", "/v1/videos/job/content?index=1"),
    ]
    manifest = read_manifest(places.result("job"))
    assert manifest is not None
    assert [(file["name"], file["role"], file["sha256"]) for file in manifest["outcome"]["files"]] == [
        ("video.mp4", "clip", view.sha256[0]),
        ("video-picture.png", "picture", view.sha256[1]),
    ]


def test_the_page_shows_it_beside_the_clip_and_goes_on_from_the_clip(made: tuple[JobView, Places]) -> None:
    view, _ = made
    html = render.done(of("en"), view)
    assert "<p class='os-faint'>First picture</p>" in html and "src='files/job/video-picture.png'" in html
    assert "download='opensora-video-picture.png'" in html and html.count("<video") == 1
    published = replace(view.request, model="opensora-2.0", picture_model="flux.1-dev")
    given_next = went_on(replace(view, request=published), "extend", 0.0, 1)["reference_video"]
    assert Path(given_next).name == "video.mp4"
