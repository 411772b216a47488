"""The real client against a hub on loopback: what comes, what is refused, and what people read."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import TOKEN, Hub, serve

from opensora.checkpoint import hub as client
from opensora.checkpoint.errors import (
    AccessDeniedError,
    BusyError,
    CorruptFileError,
    HubError,
    InterruptedDownloadError,
    NotOnHubError,
    OfflineError,
    StorageError,
    UnreachableError,
)
from opensora.checkpoint.hub import DownloadProgress, download, snapshot
from opensora.checkpoint.layout import CHECKPOINT, T5, LayoutError

ID = "someone/video-model"
ROOT = Path(__file__).parents[2]
FREE = namedtuple("FREE", "total used free")


def noise(count: int, seed: int) -> bytes:
    return hashlib.shake_256(bytes([seed])).digest(count)


FILES = {"config.json": b'{"depth": 2}\n', "model.safetensors": noise(300_000, 1), "README.md": b"not needed\n"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, an empty cache, and an environment without anyone's token."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits a second before each retry; a hundredth will do here."""
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))


def cached(tmp_path: Path) -> list[str]:
    """Names of every file under the cache that holds bytes of a repository."""
    blobs = tmp_path.glob("hf/hub/models--*/blobs/*")
    links = tmp_path.glob("hf/hub/models--*/snapshots/*/**/*")
    return sorted(path.name for path in (*blobs, *links))


def ranges(hub: Hub) -> list[str | None]:
    """From which byte on the storage was asked, request by request."""
    return [request.headers.get("range") for request in hub.requests if request.host == "storage"]


def assert_discreet(error: BaseException, tmp_path: Path) -> None:
    """An error's text goes to visitors of the page: no folder, token or signed address."""
    for secret in (str(tmp_path), str(Path.home()), TOKEN, "signature=", "Traceback"):
        assert secret not in str(error)


def test_a_checkpoint_comes_verified_and_with_progress(hub: Hub) -> None:
    hub.add(ID, FILES)
    seen: list[DownloadProgress] = []
    folder = download(ID, on_progress=seen.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors")
    }
    assert folder.name == hub.repositories[ID].commit
    for stage in ("download", "verify"):
        steps = [progress for progress in seen if progress.stage == stage]
        assert [p.done for p in steps] == sorted(p.done for p in steps)
        assert steps[-1].done == steps[-1].total == 300_000
        assert {(p.source, p.file) for p in steps} == {(ID, "model.safetensors")}


def test_a_complete_checkpoint_asks_neither_network_nor_hash_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(ID, FILES)
    folder = download(ID)
    asked = len(hub.requests)
    monkeypatch.setattr(client, "measure", lambda *_: pytest.fail("hashed again"))
    assert download(ID) == folder == download(ID, offline=True) == snapshot(ID)
    assert len(hub.requests) == asked


def test_other_programs_read_the_same_cache(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    hub.add(ID, FILES)
    folder = download(ID)
    assert client.repository_folder(ID).name == repo_folder_name(repo_id=ID, repo_type="model")
    cache = tmp_path / "hf" / "hub"
    assert try_to_load_from_cache(ID, "model.safetensors", cache_dir=cache) == str(folder / "model.safetensors")
    report = scan_cache_dir(cache)
    assert [repo.repo_id for repo in report.repos] == [ID] and not report.warnings


def test_files_that_another_program_downloaded_are_used_after_hashing(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    hub.add(ID, FILES)
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(ID, name, endpoint=hub.endpoint, cache_dir=client.cache_dir())
    asked = len(hub.requests)
    seen: list[DownloadProgress] = []
    folder = download(ID, offline=True, on_progress=seen.append)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert {progress.stage for progress in seen} == {"verify"} and len(hub.requests) == asked


def test_shards_are_fetched_by_their_index(hub: Hub) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": noise(50_000, i) for i in (1, 2)}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {**shards, "model.safetensors.index.json": json.dumps(index).encode(), "config.json": b"{}"}
    repository = hub.add(ID, files)
    seen: list[DownloadProgress] = []
    folder = download(ID, on_progress=seen.append)
    assert {path.name for path in folder.iterdir()} == set(files)
    assert seen[-1].total == 100_000 == seen[-1].done

    del repository.files["model-00002-of-00002.safetensors"]
    with pytest.raises(LayoutError, match=r"lacks model-00002-of-00002.safetensors"):
        download(ID, revision=repository.commit)


def test_t5_takes_pickled_shards_where_they_are_allowed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    index = {"weight_map": {"shared.weight": "pytorch_model-00001-of-00001.bin"}}
    files = {
        "config.json": b"{}",
        "spiece.model": noise(2000, 3),
        "pytorch_model.bin.index.json": json.dumps(index).encode(),
        "pytorch_model-00001-of-00001.bin": noise(5000, 4),
    }
    repository = hub.add(ID, files)
    with pytest.raises(LayoutError, match="only pickled weights"):
        download(ID, CHECKPOINT)
    with pytest.raises(LayoutError, match=r"only pickled weights .* --allow-pickle"):
        download(ID, T5)
    assert snapshot(ID, T5) is None
    monkeypatch.setenv("OPENSORA_ALLOW_PICKLE", "1")
    assert {path.name for path in download(ID, T5).iterdir()} == set(files)
    del repository.files["spiece.model"]
    with pytest.raises(LayoutError, match=r"lacks spiece\.model"):
        download(ID, T5, revision=repository.commit)


@pytest.mark.usefixtures("impatient")
def test_a_transfer_cut_once_is_resumed(hub: Hub) -> None:
    big = {**FILES, "model.safetensors": noise(22 << 20, 5)}
    hub.add(ID, big, "broken-once")
    assert (download(ID) / "model.safetensors").read_bytes() == big["model.safetensors"]
    assert ranges(hub) == [None, f"bytes={10 << 20}-"], "the client resumes from the last whole 10 MiB"


@pytest.mark.usefixtures("impatient")
def test_a_transfer_that_always_ends_half_way_says_how_to_go_on(hub: Hub, tmp_path: Path) -> None:
    hub.add(ID, FILES, "broken")
    with pytest.raises(InterruptedDownloadError, match="goes on from what has come") as caught:
        download(ID)
    assert_discreet(caught.value, tmp_path)
    assert snapshot(ID) is None
    assert not [name for name in cached(tmp_path) if "safetensors" in name or "incomplete" in name]


def test_a_corrupted_body_of_the_right_length_is_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    repository = hub.add(ID, FILES, "corrupt")
    with pytest.raises(CorruptFileError, match=r"model\.safetensors .* removed") as caught:
        download(ID)
    assert_discreet(caught.value, tmp_path)
    assert snapshot(ID) is None
    weights = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert not {"model.safetensors", weights} & set(cached(tmp_path))
    repository.mode = "fine"
    assert (download(ID) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_small_file_is_verified_too(hub: Hub) -> None:
    repository = hub.add(ID, FILES)
    described = repository.describe("config.json")
    repository.describe = lambda name: (
        described if name == "config.json" else type(repository).describe(repository, name)
    )
    described["oid"] = hashlib.sha1(b"something else").hexdigest()
    with pytest.raises(CorruptFileError, match=r"config\.json"):
        download(ID)


def test_a_file_changed_on_this_disk_is_noticed(hub: Hub, tmp_path: Path) -> None:
    hub.add(ID, FILES)
    weights = (download(ID) / "model.safetensors").resolve()
    weights.write_bytes(noise(300_000, 9))
    with pytest.raises(CorruptFileError, match="removed"):
        download(ID, offline=True)
    assert snapshot(ID) is None and not weights.exists()


def test_a_cache_without_links_is_verified_by_the_ledger(hub: Hub) -> None:
    hub.add(ID, FILES)
    path = download(ID) / "model.safetensors"
    shutil.copyfile(path, path.with_name("copy"))
    path.unlink()
    path.with_name("copy").rename(path)
    download(ID, offline=True)
    (client.repository_folder(ID) / ".opensora-verified.json").unlink()
    with pytest.raises(CorruptFileError, match="nothing says what its digest should be"):
        download(ID, offline=True)
    assert download(ID) == path.parent


@pytest.mark.parametrize(
    ("mode", "error", "says"),
    [
        ("gated", AccessDeniedError, "accept its terms, then log in with `hf auth login` or set HF_TOKEN"),
        ("private", NotOnHubError, "or it is private"),
        ("missing", NotOnHubError, "has no repository someone/video-model"),
        ("error", UnreachableError, "answered 500"),
        ("portal", UnreachableError, "does not answer like a hub"),
    ],
)
def test_refusals_say_what_to_do(hub: Hub, tmp_path: Path, mode: str, error: type[HubError], says: str) -> None:
    hub.add(ID, FILES).mode = mode
    with pytest.raises(error, match=says) as caught:
        download(ID)
    assert type(caught.value) is error
    assert_discreet(caught.value, tmp_path)


def test_a_token_opens_a_gated_repository_and_stays_with_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add(ID, FILES, "gated")
    assert (download(ID) / "model.safetensors").is_file()
    sent = {
        host: {r.headers.get("authorization") for r in hub.requests if r.host == host} for host in ("hub", "storage")
    }
    assert sent == {"hub": {f"Bearer {TOKEN}"}, "storage": {None}}


def test_a_missing_revision_and_no_hub_at_all(hub: Hub, tmp_path: Path) -> None:
    hub.add(ID, FILES)
    with pytest.raises(NotOnHubError, match="no such revision"):
        download(ID, revision="v9")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9 cannot be reached.*HF_ENDPOINT") as caught:
        download(ID, endpoint="http://127.0.0.1:9")
    assert_discreet(caught.value, tmp_path)
    with pytest.raises(NotOnHubError, match="Check the name, and HF_ENDPOINT"):
        download("a/b", endpoint=hub.storage + "/nothing")


def test_offline_mode_uses_what_is_here_and_asks_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(ID, FILES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="not on this machine and offline mode is on"):
        download(ID)
    assert hub.requests == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    folder = download(ID)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    assert download(ID) == folder


def test_no_room_is_said_before_the_transfer(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.add(ID, FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: FREE(10**6, 0, 200_000))
    with pytest.raises(StorageError, match="needs 300 kB, and 200 kB are free") as caught:
        download(ID)
    assert_discreet(caught.value, tmp_path)
    assert not any("model.safetensors" in path for path in hub.transfers())


def test_raising_in_the_callback_cancels(hub: Hub, tmp_path: Path) -> None:
    class Cancelled(OSError):
        """Even an error that the client would treat as its own comes out as it was."""

    def cancel(_: DownloadProgress) -> None:
        raise Cancelled("enough")

    hub.add(ID, FILES)
    with pytest.raises(Cancelled, match="enough"):
        download(ID, on_progress=cancel)
    assert not [name for name in cached(tmp_path) if "safetensors" in name or "incomplete" in name]


class Enough(Exception):
    """Somebody pauses."""


def paused_at(count: int) -> Callable[[DownloadProgress], None]:
    """Pauses a download as soon as more than so many bytes have come."""

    def look(progress: DownloadProgress) -> None:
        if progress.stage == "download" and progress.done > count:
            raise Enough

    return look


def test_a_paused_download_goes_on_with_the_rest(hub: Hub) -> None:
    big = {**FILES, "model.safetensors": noise(25 << 20, 5)}
    hub.add(ID, big)
    for count in (10 << 20, 20 << 20):
        with pytest.raises(Enough):
            download(ID, on_progress=paused_at(count))
        assert client.held_bytes(ID) == count and snapshot(ID) is None
    seen: list[DownloadProgress] = []
    assert (download(ID, on_progress=seen.append) / "model.safetensors").read_bytes() == big["model.safetensors"]
    assert ranges(hub) == [None, f"bytes={10 << 20}-", f"bytes={20 << 20}-"]
    assert [p.done for p in seen if p.stage == "download"] == [20 << 20, 25 << 20]
    assert client.held_bytes(ID) == 0


def test_only_the_rest_of_a_download_needs_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    big = {**FILES, "model.safetensors": noise(15 << 20, 5)}
    hub.add(ID, big)
    with pytest.raises(Enough):
        download(ID, on_progress=paused_at(10 << 20))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: FREE(10**9, 0, 6 << 20))
    assert (download(ID) / "model.safetensors").stat().st_size == 15 << 20


def test_what_a_pause_left_is_hashed_with_the_rest(hub: Hub) -> None:
    hub.add(ID, {**FILES, "model.safetensors": noise(15 << 20, 5)})
    with pytest.raises(Enough):
        download(ID, on_progress=paused_at(10 << 20))
    (part,) = (client.repository_folder(ID) / "blobs").glob("*.opensora-part")
    part.write_bytes(b"x" + part.read_bytes()[1:])
    with pytest.raises(CorruptFileError, match="removed"):
        download(ID)
    assert snapshot(ID) is None and client.held_bytes(ID) == 0


def test_what_came_is_deleted_when_nobody_wants_it_and_not_while_somebody_downloads(hub: Hub) -> None:
    hub.add(ID, {**FILES, "model.safetensors": noise(15 << 20, 5)})
    client.discard(ID)  # nothing is there yet, and nothing is made
    assert not client.repository_folder(ID).exists()
    refused: list[str] = []

    def busy(progress: DownloadProgress) -> None:
        for other in (download, client.discard):
            with pytest.raises(BusyError, match="by another program") as caught:
                other(ID)
            refused.append(str(caught.value))
        if progress.done > 10 << 20:
            raise Enough

    with pytest.raises(Enough):
        download(ID, on_progress=busy)
    assert len(refused) == 4 and client.held_bytes(ID) == 10 << 20
    client.discard(ID)
    assert client.held_bytes(ID) == 0
    assert download(ID).is_dir()


def test_progress_of_the_hubs_xet_transfer_is_counted_once(hub: Hub) -> None:
    from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter

    seen: list[DownloadProgress] = []
    work = client._Download(ID, "main", hub.endpoint, client.cache_dir(), seen.append, False)
    bar = client._bar(client._Tally(work, "model.safetensors", "download", 100, 1100, True))
    with XetDownloadProgressReporter(reconstruction_desc="file", total=1000, log_level=30, tqdm_class=bar) as reporter:
        for done in (400, 1000):
            reporter.update_progress(
                SimpleNamespace(
                    total_bytes=1000,
                    total_bytes_completed=done,
                    total_transfer_bytes_completed=done // 2,
                    total_bytes_completion_rate=1.0,
                    total_transfer_bytes_completion_rate=1.0,
                )
            )
    assert [progress.done for progress in seen] == [500, 1100]


def test_parts_of_killed_downloads_are_swept_after_a_day(hub: Hub) -> None:
    hub.add(ID, FILES)
    blobs = client.repository_folder(ID) / "blobs"
    blobs.mkdir(parents=True)
    old, young = blobs / "a.0.incomplete", blobs / "b.0.incomplete"
    forgotten, kept = blobs / "c.opensora-part", blobs / "d.opensora-part"
    for part, age in ((old, 25), (young, 1), (forgotten, 31 * 24), (kept, 29 * 24)):
        part.write_bytes(b"part")
        os.utime(part, (time.time() - age * 3600,) * 2)
    download(ID)
    assert [part.exists() for part in (old, young, forgotten, kept)] == [False, True, False, True]


PROGRAM = """
import sys
from opensora.checkpoint import hub
try:
    folder = hub.download({id!r}, on_progress=lambda p: print(p.stage, p.done, flush=True))
    print("folder", (folder / "model.safetensors").stat().st_size)
except hub.errors.HubError as error:
    print("refused", type(error).__name__, error)
"""


def start(program: str, limit: str = "", **environment: str) -> "subprocess.Popen[str]":
    """Run a program in a fresh interpreter, where huggingface_hub reads the environment at its import."""
    values = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    argv = ["bash", "-c", f'{limit} exec "$@"', "run", sys.executable, "-c", program]
    return subprocess.Popen(argv, env=values, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_fresh_process_honours_the_environment(hub: Hub, tmp_path: Path) -> None:
    hub.add(ID, FILES)
    other = tmp_path / "elsewhere"
    program = PROGRAM.format(id=ID)
    before, _ = start(program, HF_HOME=str(other), HF_HUB_OFFLINE="1").communicate(timeout=60)
    assert before.startswith("refused OfflineError") and hub.requests == []
    there, _ = start(program, HF_HOME=str(other)).communicate(timeout=60)
    assert there.endswith("folder 300000\n") and len(list(other.glob("hub/models--*"))) == 1
    asked = len(hub.requests)
    after, _ = start(program, HF_HOME=str(other), HF_HUB_OFFLINE="1").communicate(timeout=60)
    assert after == "folder 300000\n" and len(hub.requests) == asked


def test_a_disk_that_fills_up_while_writing(hub: Hub, tmp_path: Path) -> None:
    hub.add(ID, FILES)
    out, _ = start(PROGRAM.format(id=ID), limit="ulimit -f 100;").communicate(timeout=60)
    assert "refused StorageError The disk where downloads go filled up" in out
    assert not [name for name in cached(tmp_path) if "safetensors" in name or "incomplete" in name]
    assert client.held_bytes(ID) == 100 * 1024
    assert (download(ID) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert ranges(hub)[-1] == f"bytes={100 * 1024}-"


def test_a_killed_slow_download_is_no_checkpoint_and_goes_on_where_it_was(hub: Hub) -> None:
    big = {**FILES, "model.safetensors": noise(21 << 20, 5)}
    repository = hub.add(ID, big, "slow")
    process = start(PROGRAM.format(id=ID))
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [f"download {10 << 20}\n", f"download {20 << 20}\n"]
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    process.stdout.close()
    assert snapshot(ID) is None
    came = client.held_bytes(ID)
    assert 10 << 20 <= came <= 21 << 20
    repository.mode = "fine"
    assert (download(ID) / "model.safetensors").read_bytes() == big["model.safetensors"]
    assert ranges(hub) == ([None] if came == 21 << 20 else [None, f"bytes={came}-"])
    assert client.held_bytes(ID) == 0
