"""Names of checkpoints: bundled, a path, a hub id, and what is none of these."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, serve

from opensora.checkpoint import locate
from opensora.checkpoint.layout import CHECKPOINT, Layout, LayoutError, is_plain, present, shards
from opensora.checkpoint.locate import is_hub_id, resolve


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def write(folder: Path, *names: str, index: dict[str, str] | None = None) -> Path:
    """A folder with files; their content does not matter here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_a_hub_id_is_downloaded_whole_or_file_by_file(hub: Hub) -> None:
    hub.add("org/net", {"config.json": b"{}", "model.safetensors": bytes(2000), "extra/notes.txt": b"notes"})
    folder = resolve("org/net")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert resolve("org/net", "extra/notes.txt").read_bytes() == b"notes"
    hub.add("org/other", {"config.json": b"{}", "model.safetensors": bytes(2000)})
    assert resolve("org/other", "model.safetensors").with_name("config.json").is_file()
    assert resolve("org/net", "model.safetensors", offline=True) == folder / "model.safetensors"
    with pytest.raises(LayoutError, match=r"lacks nothing\.txt"):
        resolve("org/net", "nothing.txt")


def test_an_existing_path_wins_over_a_hub_id(hub: Hub, tmp_path: Path) -> None:
    here = write(tmp_path / "org" / "net", "model.safetensors")
    assert resolve("org/net").resolve() == here
    assert resolve(here) == here and resolve(here / "model.safetensors") == here / "model.safetensors"
    assert resolve(here, "model.safetensors") == here / "model.safetensors"
    assert hub.requests == []


def test_bundled_checkpoints_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = write(tmp_path / "clone" / "tiny", "model.safetensors")
    monkeypatch.setattr(locate, "assets_folder", lambda: tmp_path / "clone")
    assert resolve("assets/tiny") == bundled
    with pytest.raises(ValueError, match="comes with a clone"):
        resolve("assets/huge")
    monkeypatch.undo()
    assert locate.assets_folder() == Path(__file__).parents[2] / "assets"


@pytest.mark.parametrize("name", ["nothing-here", "./org/net", "/nowhere/at/all", "a/b/c", "", "../up", "org/..net"])
def test_what_is_neither_path_nor_id_is_refused_without_asking(hub: Hub, name: str) -> None:
    with pytest.raises(ValueError, match="expected an existing path or a hub id such as 'hpcai-tech/"):
        resolve(name)
    assert hub.requests == []


def test_a_path_object_is_never_taken_for_a_hub_id(hub: Hub) -> None:
    with pytest.raises(ValueError, match="no file or folder here"):
        resolve(Path("org/net"))
    assert hub.requests == []


def test_a_local_folder_with_missing_shards_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "net", "one.safetensors", index={"a": "one.safetensors", "b": "two.safetensors"})
    with pytest.raises(LayoutError, match=r"1 of 2 shards are missing, two\.safetensors first"):
        resolve(folder)
    (folder / "two.safetensors").write_bytes(b"x")
    assert resolve(folder) == folder
    with pytest.raises(LayoutError, match=r"has no file config\.json"):
        resolve(folder, "config.json")
    with pytest.raises(ValueError, match="give the folder"):
        resolve(folder / "one.safetensors", "two.safetensors")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "a\\..\\b", "", "x\0y"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    assert not is_plain(name)
    with pytest.raises(ValueError, match="inside the checkpoint"):
        resolve(tmp_path, name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(LayoutError, match="not a file beside it"):
        shards(index)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": [1]}}', '{"weight_map": {}}']
)
def test_a_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(LayoutError, match=r"index of weights|names the shard|names no shards"):
        shards(index)


def test_which_files_make_a_checkpoint(tmp_path: Path) -> None:
    both = write(
        tmp_path / "both", "model.safetensors", "part.safetensors", "config.json", index={"a": "part.safetensors"}
    )
    assert present(both, CHECKPOINT, "both") == ("config.json", "model.safetensors"), "a single file is preferred"
    assert present(write(tmp_path / "own", "ema.safetensors"), CHECKPOINT, "own") == ("ema.safetensors",)
    exact = Layout(weights=("b.safetensors",))
    several = write(tmp_path / "several", "a.safetensors", "b.safetensors")
    assert present(several, exact, "several") == ("b.safetensors",)
    with pytest.raises(LayoutError, match=r"several weights, name one: a\.safetensors, b\.safetensors"):
        present(several, CHECKPOINT, "several")
    with pytest.raises(LayoutError, match=r"holds no weights; expected model\.safetensors"):
        present(write(tmp_path / "none", "config.json"), CHECKPOINT, "none")


def test_hub_ids_are_told_from_other_names() -> None:
    assert is_hub_id("hpcai-tech/OpenSora-STDiT-v4") and is_hub_id("DeepFloyd/t5-v1_1-xxl")
    assert not any(map(is_hub_id, ("tiny", "assets/tiny", "a/b/c", "./a", "a/", "a b/c", "http://x/y")))
