"""Strict safetensors files: what fits is loaded exactly, what does not is listed."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from opensora.checkpoint.identity import IdentityError
from opensora.checkpoint.layout import LayoutError
from opensora.checkpoint.safetensors_io import CheckpointError, file_sha256, load_strict, read_metadata, save


class Net(nn.Module):
    """A linear layer, a layer of integers, and a buffer that is not saved."""

    def __init__(self, width: int = 3, layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("table", torch.arange(3.0), persistent=False)


class Tied(nn.Module):
    """Two names of one tensor, as in T5."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(4, 2)
        self.encoder = nn.Embedding(4, 2)
        self.encoder.weight = self.shared.weight


def equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_round_trip(tmp_path: Path) -> None:
    a, b = Net(), Net()
    save(a, tmp_path / "model.safetensors", {"role": "vae", "steps": 5})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    for source in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        load_strict(b, source)
        assert equal(a, b)
    assert read_metadata(tmp_path) == {"format": "pt", "role": "vae", "steps": "5"}


def test_dtype_of_file_and_network(tmp_path: Path) -> None:
    a, b = Net(), Net().double()
    save(a, tmp_path / "m.safetensors", {}, dtype=torch.bfloat16)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert file.get_tensor("layers.0.weight").dtype is torch.bfloat16
        assert file.get_tensor("count").dtype is torch.int64
    load_strict(b, tmp_path / "m.safetensors")
    assert torch.equal(b.layers[0].weight, a.layers[0].weight.bfloat16().double())


def test_meta_network_gets_memory_of_its_own_dtype(tmp_path: Path) -> None:
    a = Net()
    save(a, tmp_path / "m.safetensors", {}, dtype=torch.bfloat16)
    with torch.device("meta"):
        b = Net()
    load_strict(b, tmp_path / "m.safetensors")
    assert b.layers[0].weight.dtype is torch.float32
    assert b.layers[0].weight.requires_grad
    assert torch.equal(b.layers[0].weight, a.layers[0].weight.bfloat16().float())


def test_one_name_of_a_shared_tensor_is_enough(tmp_path: Path) -> None:
    a, b = Tied(), Tied()
    save(a, tmp_path / "m.safetensors", {})
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert len(list(file.keys())) == 1
    load_strict(b, tmp_path / "m.safetensors")
    assert equal(a, b)
    save_file({"shared.weight": a.shared.weight.detach()}, tmp_path / "other.safetensors")
    load_strict(b, tmp_path / "other.safetensors")
    with torch.device("meta"):
        c = Tied()
    c.encoder.weight = c.shared.weight
    load_strict(c, tmp_path / "m.safetensors")
    assert equal(a, c)


def test_shards(tmp_path: Path) -> None:
    a, b = Net(layers=3), Net(layers=3)
    names = list(a.state_dict())
    parts = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for file, held in parts.items():
        save_file({name: a.state_dict()[name] for name in held}, tmp_path / file, {"family": "1.3"})
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for source in (tmp_path, tmp_path / "model.safetensors.index.json"):
        load_strict(b, source)
        assert equal(a, b)
    assert read_metadata(tmp_path) == {"family": "1.3"}
    (tmp_path / "model-2.safetensors").unlink()
    for source in (tmp_path, tmp_path / "model.safetensors.index.json"):
        with pytest.raises((CheckpointError, LayoutError), match=r"model-2\.safetensors"):
            load_strict(b, source)


def test_shards_outside_the_folder_are_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(ValueError, match="not a file beside it"):
        load_strict(Net(), index)


def test_what_does_not_fit_is_listed_and_nothing_changes(tmp_path: Path) -> None:
    a, b = Net(layers=2), Net(width=4)
    before = {name: tensor.clone() for name, tensor in b.state_dict().items()}
    save(a, tmp_path / "m.safetensors", {})
    with pytest.raises(CheckpointError) as error:
        load_strict(b, tmp_path / "m.safetensors")
    text = str(error.value)
    assert "m.safetensors does not fit this network (5 tensors, the network has 3)" in text
    assert "2 unexpected: layers.1.bias, layers.1.weight" in text
    assert "layers.0.weight is [3, 3] in the file, [4, 4] in the network" in text
    assert all(torch.equal(before[name], tensor) for name, tensor in b.state_dict().items())
    with pytest.raises(CheckpointError, match=r"2 missing: layers\.1\.bias, layers\.1\.weight"):
        save(Net(), tmp_path / "n.safetensors", {})
        load_strict(a, tmp_path / "n.safetensors")


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    state = {name: tensor.to(torch.int8) for name, tensor in Net().state_dict().items()}
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"2 tensors are quantised \(I8\).*float32"):
        load_strict(Net(), tmp_path / "m.safetensors")


def test_long_lists_are_cut(tmp_path: Path) -> None:
    save(Net(), tmp_path / "m.safetensors", {})
    with pytest.raises(CheckpointError, match=r"40 missing: .* and 32 more$"):
        load_strict(Net(layers=21), tmp_path / "m.safetensors")


def test_expectations(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save(Net(), file, {"role": "vae", "family": "1.3", "modes": "t2v,i2v"})
    load_strict(Net(), file, expect={"role": "vae", "family": "1.3", "mode": "i2v", "resolution": "720p"})
    with pytest.raises(IdentityError, match="role vae; stdit is needed"):
        load_strict(Net(), file, expect={"role": "stdit"})
    with pytest.raises(IdentityError, match="not for t2i"):
        load_strict(Net(), file, expect={"mode": "t2i"})


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.ckpt"])
def test_only_safetensors_are_opened(tmp_path: Path, name: str) -> None:
    torch.save(Net().state_dict(), tmp_path / name)
    with pytest.raises(CheckpointError, match=r"only \.safetensors files are loaded"):
        load_strict(Net(), tmp_path / name)


def test_damaged_files(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save(Net(), file, {})
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"m\.safetensors cannot be read as safetensors"):
        load_strict(Net(), file)
    with pytest.raises(IdentityError, match="cut short or changed"):
        load_strict(Net(), file, expect={"role": "vae"})
    with pytest.raises(CheckpointError, match=r"absent\.safetensors not found"):
        load_strict(Net(), tmp_path / "absent.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.safetensors"
    save(Net(), file, {})
    before = file.read_bytes()

    def full(*args: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("opensora.checkpoint.safetensors_io.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save(Net(), file, {})
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    metadata = {"role": "stdit", "family": "1.3", "steps": 5, "seed": 0, "title": "빨간 공", "a": 1, "b": 2, "c": 3}
    names = [f"{n}.safetensors" for n in ("one", "two", "three")]
    for name in names:
        save(module, tmp_path / name, metadata)
    assert len({(tmp_path / name).read_bytes() for name in names}) == 1
    assert read_metadata(tmp_path / names[0])["title"] == "빨간 공"
