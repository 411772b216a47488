"""From what a person or a table names to files on this disk: bundled, a local path, or a hub repository."""

import os
import re
from pathlib import Path

from opensora.checkpoint import hub
from opensora.checkpoint.layout import CHECKPOINT, INDEX_SUFFIX, Layout, LayoutError, incomplete, is_plain, shards

ASSETS = "assets/"
"""Prefix of checkpoints that come with the repository."""
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*")


def assets_folder() -> Path:
    """The folder of the bundled checkpoints, beside the package."""
    return Path(__file__).resolve().parents[2] / "assets"


def is_hub_id(source: str) -> bool:
    """Whether `source` has the form "organisation/name" and is not a bundled checkpoint."""
    return bool(_HUB_ID.fullmatch(source)) and ".." not in source and not source.startswith(ASSETS)


def resolve(
    source: str | os.PathLike[str],
    filename: str | None = None,
    *,
    layout: Layout = CHECKPOINT,
    revision: str = "main",
    offline: bool | None = None,
    endpoint: str | None = None,
    cache: Path | None = None,
    on_progress: hub.OnProgress | None = None,
) -> Path:
    """Find a checkpoint, downloading and verifying it first when it is a hub id that is not here.

    Args:
        source: "assets/..." (bundled), an existing file or folder, or a hub id "organisation/name". An existing path
            wins over a hub id of the same spelling.
        filename: one file of it, with '/' between folders; None means the whole checkpoint. From a hub the
            config.json comes along where there is one.
        layout: which files a hub repository must give; `layout.T5` for a text encoder.
        revision: branch, tag or commit of a hub repository.
        offline: True forbids the network; None reads HF_HUB_OFFLINE.
        endpoint: the hub's address; None reads HF_ENDPOINT.
        cache: folder of the downloads; None reads HF_HUB_CACHE and HF_HOME.
        on_progress: see `hub.download`.
    Returns:
        The folder of the checkpoint, the path of `filename` in it, or `source` itself when it is a file.
    Raises:
        ValueError: nothing by that name, with what was expected; `HubError` and `LayoutError` are of this kind.
    """
    if filename is not None and not is_plain(filename):
        raise ValueError(
            f"got the file name {filename!r}, expected a name inside the checkpoint, such as 'model.safetensors'."
        )
    name = os.fspath(source)
    path = _local(name)
    if path is None and isinstance(source, str) and is_hub_id(name):
        wanted = layout if filename is None else Layout(required=(filename,), weights=())
        path = hub.download(
            name, wanted, revision=revision, offline=offline, endpoint=endpoint, cache=cache, on_progress=on_progress
        )
    elif path is None:
        raise ValueError(_nothing(name))
    if path.is_file():
        if filename is not None and filename != path.name:
            raise ValueError(f"{name} is a file, so it has no {filename}; give the folder.")
        return path
    if filename is None:
        _refuse_partial(path, name)
        return path
    if not (path / filename).is_file():
        raise LayoutError(f"{name} has no file {filename}.")
    return path / filename


def _local(name: str) -> Path | None:
    """The bundled or local path of that name, if it exists."""
    if name.startswith(ASSETS):
        bundled = assets_folder() / name.removeprefix(ASSETS)
        return bundled if bundled.exists() else None
    path = Path(name).expanduser()
    return path if name and path.exists() else None


def _nothing(name: str) -> str:
    """What to say when there is nothing by that name."""
    if name.startswith(ASSETS):
        return f"The bundled checkpoint {name} is missing; it comes with a clone of the repository, not the package."
    return (
        f"got the checkpoint {name!r}, which is no file or folder here; expected an existing path or a hub id such as "
        "'hpcai-tech/OpenSora-STDiT-v4'."
    )


def _refuse_partial(folder: Path, name: str) -> None:
    """Raise if an index in the folder names shards that are not there."""
    for index in folder.glob(f"*{INDEX_SUFFIX}"):
        parts = shards(index)
        missing = [part for part in parts if not (folder / part).is_file()]
        if missing:
            raise incomplete(name, missing, len(parts))
