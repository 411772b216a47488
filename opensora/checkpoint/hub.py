"""Downloading checkpoints from a hub, and trusting nothing that was not hashed here.

Transfers, caching and log-in are huggingface_hub's, in the layout that other programs share. On top of it:

- every file is compared with the digest that the hub states (`verify`); a file that differs is removed and refused;
- all files of a checkpoint come from one commit;
- a transfer that was broken off goes on where it was (`partial`);
- a complete checkpoint is used without asking the network, so a moved branch changes nothing until the copy is deleted;
- room is checked before a transfer starts, and errors are sentences (`errors`).

`HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN` are read when a function is called. A log-in
saved by `hf auth login` is looked for where `HF_HOME` pointed when huggingface_hub was imported.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from opensora.checkpoint import errors, partial
from opensora.checkpoint.layout import CHECKPOINT, Layout, LayoutError, present, shards
from opensora.checkpoint.verify import Digest, Ledger, measure, named_digest
from opensora.sentences import say

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}
_ANSWER_SECONDS = 20.0
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is."""

    source: str
    """The repository, "organisation/name"."""
    file: str
    """The file in work."""
    stage: Literal["download", "verify"]
    """Transfer, or the comparison with the hub's digest."""
    done: int
    """Bytes of this stage finished, over all files of the repository."""
    total: int
    """Bytes of this stage in all; already present files count as done."""


OnProgress = Callable[[DownloadProgress], None]


def cache_dir() -> Path:
    """The folder that downloads go to: HF_HUB_CACHE, or hub/ in HF_HOME, or ~/.cache/huggingface/hub."""
    if explicit := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return _expand(explicit)
    if home := os.environ.get("HF_HOME"):
        return _expand(home) / "hub"
    return _expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def endpoint_url() -> str:
    """The hub to ask: HF_ENDPOINT, or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def offline_mode() -> bool:
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def repository_folder(repo_id: str, cache: Path | None = None) -> Path:
    """Where the cache keeps a model repository."""
    return (cache or cache_dir()) / f"models--{repo_id.replace('/', '--')}"


def snapshot(
    repo_id: str, layout: Layout = CHECKPOINT, *, revision: str = "main", cache: Path | None = None
) -> Path | None:
    """The folder of a checkpoint that is completely in the cache, None if anything is missing. Asks no network.

    Complete means that all files are there; `download` (which then transfers nothing) also checks their digests.
    """
    folder = repository_folder(repo_id, cache)
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision
    found = folder / "snapshots" / commit
    try:
        present(found, layout, repo_id)
    except (LayoutError, OSError):
        return None
    return found


def download(
    repo_id: str,
    layout: Layout = CHECKPOINT,
    *,
    revision: str = "main",
    endpoint: str | None = None,
    cache: Path | None = None,
    offline: bool | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Make a checkpoint present and verified; returns the folder that holds its files.

    Args:
        repo_id: "organisation/name".
        layout: which files are needed.
        revision: branch, tag or commit.
        endpoint: the hub's address; None reads HF_ENDPOINT.
        cache: folder of the cache; None reads HF_HUB_CACHE and HF_HOME.
        offline: True forbids the network; None reads HF_HUB_OFFLINE.
        on_progress: called as bytes arrive and are hashed, possibly in a thread of the client. What it raises ends the
            download and reaches the caller; that is how to pause and to cancel. It takes effect with the next 10 MiB,
            and what has come stays for the next call; `discard` deletes it.
    Raises:
        HubError: with a sentence that says what to do; see `opensora.checkpoint.errors`.
        LayoutError: the repository does not hold such a checkpoint.
    """
    work = _Download(
        repo_id,
        revision,
        (endpoint or endpoint_url()).rstrip("/"),
        cache or cache_dir(),
        on_progress,
        offline_mode() if offline is None else offline,
    )
    try:
        with errors.explained(repo_id, work.endpoint):
            return work.run(layout)
    except Exception:
        if work.raised is not None:
            raise work.raised from None
        raise


def held_bytes(repo_id: str, *, cache: Path | None = None) -> int:
    """Bytes that have come of files of a repository that are not whole yet."""
    return partial.held(repository_folder(repo_id, cache))


def discard(repo_id: str, *, cache: Path | None = None) -> None:
    """Delete what has come of files of a repository that are not whole yet.

    Raises:
        BusyError: it is being downloaded.
    """
    folder = repository_folder(repo_id, cache)
    if folder.is_dir():
        with partial.alone(folder, repo_id):
            partial.discard(folder)


@dataclass
class _Download:
    """One call of `download`."""

    repo_id: str
    revision: str
    endpoint: str
    cache: Path
    on_progress: OnProgress | None
    offline: bool
    raised: BaseException | None = None
    """What `on_progress` raised, whatever the client made of it."""
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(repository_folder(self.repo_id, self.cache))

    def run(self, layout: Layout) -> Path:
        held = snapshot(self.repo_id, layout, revision=self.revision, cache=self.cache)
        if held is not None:
            self._verify_held(held, present(held, layout, self.repo_id))
            return held
        if self.offline:
            raise errors.offline(self.repo_id)
        folder = repository_folder(self.repo_id, self.cache)
        _sweep(folder)
        with partial.alone(folder, self.repo_id):
            return self._fetched(layout)

    def _fetched(self, layout: Layout) -> Path:
        """Ask the hub what there is, and make it present."""
        info = self._api().model_info(self.repo_id, revision=self.revision, timeout=_ANSWER_SECONDS)
        if info.sha is None:
            raise errors.UnreachableError(say("hub.commit", repo=self.repo_id))
        names = [entry.rfilename for entry in info.siblings or ()]
        where = f"The hub repository {self.repo_id}"
        chosen = layout.choose(names, where)
        weights: Sequence[str] = chosen.weights
        small = self._fetch(chosen.companions, info.sha, report=not weights and chosen.index is None)
        if chosen.index is not None:
            weights = shards(small / chosen.index)
            missing = [name for name in weights if name not in names]
            if missing:
                raise LayoutError(f"{where} is incomplete: it lacks {', '.join(missing)}.")
        folder = self._fetch(weights, info.sha, report=True)
        self._point(info.sha)
        return folder

    def _api(self) -> "HfApi":
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, library_name="opensora")

    def _stated(self, names: Sequence[str], commit: str) -> dict[str, "RepoFile"]:
        """What the hub says of each file."""
        from huggingface_hub.hf_api import RepoFile

        infos = self._api().get_paths_info(self.repo_id, list(names), revision=commit)
        return {info.path: info for info in infos if isinstance(info, RepoFile)}

    def _fetch(self, names: Sequence[str], commit: str, *, report: bool) -> Path:
        """Transfer and verify files of one commit; returns the snapshot's folder."""
        folder = repository_folder(self.repo_id, self.cache) / "snapshots" / commit
        if not names:
            return folder
        stated = self._stated(names, commit)
        unknown = [name for name in names if name not in stated]
        if unknown:
            raise errors.NotOnHubError(say("hub.sizes", repo=self.repo_id, files=", ".join(unknown)))
        absent = [name for name in names if not (folder / name).is_file()]
        self._check_room(sum(stated[name].size - partial.size_of(self._part(stated[name])) for name in absent))
        total = sum(info.size for info in stated.values())
        done = 0
        for name in names:
            digest = _digest_of(stated[name])
            if digest is None:
                raise errors.CorruptFileError(say("hub.digest.none", file=name))
            if name in absent:
                self._transfer(stated[name], commit, _Tally(self, name, "download", done, total, report))
            self._verify(folder / name, name, digest, _Tally(self, name, "verify", done, total, report))
            done += stated[name].size
        return folder

    def _part(self, info: "RepoFile") -> Path:
        """Where a large file is while it comes."""
        return partial.part_of(repository_folder(self.repo_id, self.cache), info.lfs.sha256 if info.lfs else "small")

    def _transfer(self, info: "RepoFile", commit: str, tally: "_Tally") -> None:
        """A large file comes by parts to its place among the blobs; small ones, and the links, are the client's."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        if info.lfs is not None and info.size <= partial.LARGEST:
            url = hf_hub_url(self.repo_id, info.path, revision=commit, endpoint=self.endpoint)
            headers = build_hf_headers(library_name="opensora")
            etag = get_hf_file_metadata(url, headers=headers, timeout=_ANSWER_SECONDS, endpoint=self.endpoint).etag
            part = self._part(info)
            if etag is not None and not (blob := part.with_name(etag)).exists():
                partial.fetch(url, headers, part, info.size, _bar(tally))
                os.replace(part, blob)
        hf_hub_download(
            self.repo_id,
            info.path,
            revision=commit,
            cache_dir=self.cache,
            endpoint=self.endpoint,
            library_name="opensora",
            tqdm_class=_bar(tally),
        )
        if self.raised is not None:
            raise self.raised

    def _verify(self, path: Path, name: str, digest: Digest, tally: "_Tally") -> None:
        """Compare a file with its digest, unless the ledger has it; remove it if it differs."""
        if self.ledger.lookup(path) == digest:
            return
        if measure(path, digest.kind, tally.set) == digest:
            self.ledger.record(path, digest)
            return
        _remove(path)
        self.ledger.forget(path)
        raise errors.CorruptFileError(say("hub.corrupt", file=name, repo=self.repo_id, kind=digest.kind))

    def _verify_held(self, folder: Path, names: Sequence[str]) -> None:
        """Verify files that were here before this call, without the network where that is possible."""
        unknown = [name for name in names if self.ledger.lookup(folder / name) is None]
        expected = {name: self.ledger.recorded(folder / name) or named_digest(folder / name) for name in unknown}
        nameless = [name for name in unknown if expected[name] is None]
        if nameless and not self.offline:
            stated = self._stated(nameless, folder.name)
            expected |= {name: _digest_of(stated[name]) for name in nameless if name in stated}
        total = sum((folder / name).stat().st_size for name in unknown)
        done = 0
        for name in unknown:
            digest = expected[name]
            if digest is None:
                raise errors.CorruptFileError(say("hub.digest", file=name, repo=self.repo_id))
            size = (folder / name).stat().st_size
            self._verify(folder / name, name, digest, _Tally(self, name, "verify", done, total, True))
            done += size

    def _check_room(self, needed: int) -> None:
        place = next(folder for folder in (self.cache, *self.cache.absolute().parents) if folder.is_dir())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise errors.no_room(needed, free)

    def _point(self, commit: str) -> None:
        """Write which commit the revision is, where the cache's other users look for it."""
        if commit != self.revision:
            pointer = repository_folder(self.repo_id, self.cache) / "refs" / self.revision
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.write_text(commit, encoding="utf-8")


@dataclass
class _Tally:
    """Bytes of one file, handed on as progress of the whole."""

    work: _Download
    file: str
    stage: Literal["download", "verify"]
    before: int
    total: int
    report: bool

    def set(self, done: int) -> None:
        """`done` bytes of the file are finished."""
        if self.report and self.work.on_progress is not None:
            progress = DownloadProgress(self.work.repo_id, self.file, self.stage, self.before + done, self.total)
            try:
                self.work.on_progress(progress)
            except BaseException as error:
                self.work.raised = error
                raise


def _bar(tally: _Tally) -> Any:
    """A class in the place of the client's progress bar, which draws nothing and reports to `tally`."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        """One file's bar. The client may also report transferred bytes of a deduplicating store; they do not count."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})
            self.bytes = settings.get("initial") or 0
            if self.bytes:
                tally.set(self.bytes)

        def update(self, n: float | None = 1) -> bool | None:
            self.bytes += int(n or 0)
            tally.set(self.bytes)
            return None

        def update_transfer(self, n: float) -> None:
            """Bytes on the wire."""

        def set_transfer_postfix_str(self, text: str, refresh: bool = True) -> None:
            """The speed on the wire."""

    return Bar


def _digest_of(info: "RepoFile") -> Digest | None:
    """The digest that the hub states: sha256 for a large file, the git id for a small one."""
    return Digest("sha256", info.lfs.sha256) if info.lfs is not None else Digest.parse(info.blob_id)


def _remove(path: Path) -> None:
    """Delete a cache entry with the blob behind it, and what a shared blob leads to."""
    entry = path
    while entry.is_symlink():
        behind = entry.parent / entry.readlink()
        entry.unlink()
        entry = behind
    entry.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Delete parts that nobody continues: the client's own after a day, ours when nobody came back for them."""
    partial.sweep(folder)
    for part in (folder / "blobs").glob("*.incomplete"):
        try:
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink()
        except OSError:
            continue


def _expand(text: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(text)))
