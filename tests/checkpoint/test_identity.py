"""What a checkpoint says it is, and damage found without loading a tensor."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from opensora.checkpoint.identity import Identity, IdentityError, fingerprint, identify, read_header, require
from opensora.checkpoint.layout import LayoutError
from opensora.checkpoint.verify import Digest, measure

TENSORS = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3, dtype=torch.bfloat16), "step": torch.tensor(5)}


def write(folder: Path, **metadata: str) -> Path:
    folder.mkdir()
    save_file(TENSORS, folder / "model.safetensors", metadata or None)
    return folder


def test_the_header_tells_shapes_metadata_and_use(tmp_path: Path) -> None:
    folder = write(tmp_path / "net", role="stdit", family="1.3", modes="t2v, i2v", resolutions="144p")
    header = read_header(folder / "model.safetensors")
    assert header.shapes == {"a.weight": (3, 4), "a.bias": (3,), "step": ()}
    assert identify(folder) == Identity("stdit", "1.3", ("t2v", "i2v"), ("144p",), 16)
    assert identify(folder / "model.safetensors") == identify(folder)


def test_shards_are_read_together(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors", {"family": "1.3"})
    save_file({"b": torch.ones(5)}, tmp_path / "2.safetensors")
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert identify(tmp_path) == Identity(None, "1.3", (), (), 7)
    digests = [hashlib.sha256((tmp_path / f"{i}.safetensors").read_bytes()).hexdigest() for i in (1, 2)]
    assert fingerprint(tmp_path) == hashlib.sha256("\n".join(digests).encode()).hexdigest()


def test_the_fingerprint_is_the_sha256_of_the_weights(tmp_path: Path) -> None:
    folder = write(tmp_path / "net")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert fingerprint(folder) == digest == fingerprint(folder / "model.safetensors")
    (tmp_path / "blobs").mkdir()
    blob = (folder / "model.safetensors").rename(tmp_path / "blobs" / digest)
    (folder / "model.safetensors").symlink_to(blob)
    blob.write_bytes(b"not read")
    assert fingerprint(folder) == digest, "a verified download is known by its name"


@pytest.mark.parametrize("size", [0, 4, 8, 40, -1, 1])
def test_a_file_cut_short_or_padded_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "net") / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data + b"\0" if size == 1 else data[:size])
    with pytest.raises(IdentityError, match=r"model\.safetensors (is not a safetensors|has \d+ bytes)"):
        identify(path.parent)


def test_other_files_are_not_taken_for_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for junk in (
        b"PK\3\4" + bytes(100),
        b"version https://git-lfs.github.com/spec/v1\n" + bytes(90),
        b"\x02" + bytes(7) + b"[]",
    ):
        path.write_bytes(junk)
        with pytest.raises(IdentityError, match="not a safetensors file"):
            identify(tmp_path)
    with pytest.raises(LayoutError, match="no checkpoint"):
        identify(tmp_path / "absent")


def test_a_checkpoint_for_another_use_is_refused() -> None:
    tiny = Identity("stdit", "1.3", ("t2v",), ("144p",), 16)
    require(tiny, "tiny", role="stdit", family="1.3", mode="t2v", resolution="144p")
    with pytest.raises(IdentityError, match="tiny is a checkpoint of the role stdit; vae is needed here"):
        require(tiny, "tiny", role="vae")
    with pytest.raises(IdentityError, match=r"of the family 1\.3; 2\.0 is needed"):
        require(tiny, "tiny", family="2.0")
    with pytest.raises(IdentityError, match="made for the mode t2v, not for i2v"):
        require(tiny, "tiny", mode="i2v")
    with pytest.raises(IdentityError, match="made for the resolution 144p, not for 720p"):
        require(tiny, "tiny", resolution="720p")
    require(Identity(None, None, (), (), 0), "published", role="vae", family="1.3", mode="i2v", resolution="720p")


def test_digests_match_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert measure(path, "git") == Digest("git", "ce013625030ba8dba906f756967f9e9ca394464a"), "git hash-object"
    seen: list[int] = []
    assert measure(path, "sha256", seen.append) == Digest("sha256", hashlib.sha256(b"hello\n").hexdigest())
    assert seen == [6]
    assert Digest.parse("W/abc") is None and Digest.parse("AB" * 20) == Digest("git", "ab" * 20)
    with pytest.raises(ValueError, match="expected 64"):
        Digest("sha256", "ab")
