"""Kept features of texts: equal to fresh ones, safe on disk, bounded, and harmless when damaged."""

import hashlib
import os
import threading
from pathlib import Path

import pytest
import torch
from models import text_encoders
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from opensora.models.text.conditioner import HFEmbedder
from opensora.models.text.embedding_cache import CachedEmbedder, EmbeddingCache
from opensora.models.text.t5 import T5Encoder

IDENTITY = {"weights": "a" * 64, "precision": "fp32"}
FEATURES = torch.linspace(-1, 1, 24).view(4, 6)


def on_disk(folder: Path, **bounds: int) -> EmbeddingCache:
    return EmbeddingCache(IDENTITY, folder, **bounds)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("text", ["a red ball", "", "빨간 공\ud800\0"])
def test_another_process_finds_the_same_bits(tmp_path: Path, text: str, dtype: torch.dtype) -> None:
    features = FEATURES.to(dtype)
    on_disk(tmp_path).put(text, 8, features)
    kept = on_disk(tmp_path).get(text, 8)
    assert kept is not None and kept.dtype == dtype and torch.equal(kept, features)


def test_text_length_identity_and_threads_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = on_disk(tmp_path)
    cache.put("snow", 8, FEATURES)
    assert cache.get("snow ", 8) is None and cache.get("snow", 9) is None
    assert EmbeddingCache({**IDENTITY, "precision": "bf16"}, tmp_path).get("snow", 8) is None
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    assert cache.get("snow", 8) is None


def test_what_is_kept_does_not_change_with_the_tensor_it_came_from(tmp_path: Path) -> None:
    features = FEATURES.clone()
    cache = on_disk(tmp_path)
    cache.put("snow", 8, features)
    features.zero_()
    assert torch.equal(cache.get("snow", 8), FEATURES)


def test_files_hold_numbers_and_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    on_disk(folder).put("a secret garden", 8, FEATURES)
    (file,) = files(folder)
    assert b"secret" not in file.read_bytes() and "secret" not in file.name
    with safe_open(file, "pt") as reader:
        assert list(reader.keys()) == ["features"] and set(reader.metadata()) == {"sha256"}
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0 and file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "text", "other tensor", "no digest", "number"])
def test_a_damaged_file_is_removed_and_no_failure(tmp_path: Path, damage: str) -> None:
    on_disk(tmp_path).put("snow", 8, FEATURES)
    (file,) = files(tmp_path)
    data = file.read_bytes()
    scalar = torch.tensor(1.0)
    whole = {"sha256": hashlib.sha256(scalar.numpy().tobytes()).hexdigest()}
    match damage:
        case "other tensor":
            save_file({"weights": FEATURES}, file, whole)
        case "no digest":
            save_file({"features": FEATURES}, file)
        case "number":
            save_file({"features": scalar}, file, {"sha256": "0"})
        case _:
            flipped = data[:-1] + bytes([data[-1] ^ 1])
            file.write_bytes({"empty": b"", "cut": data[:-4], "bit": flipped, "text": b"{}"}[damage])
    cache = on_disk(tmp_path)
    assert cache.get("snow", 8) is None and files(tmp_path) == []
    cache.put("snow", 8, FEATURES)
    assert torch.equal(on_disk(tmp_path).get("snow", 8), FEATURES)


def test_a_folder_that_cannot_be_made_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = on_disk(tmp_path / "file" / "cache")
    cache.put("snow", 8, FEATURES)
    assert torch.equal(cache.get("snow", 8), FEATURES)
    assert on_disk(tmp_path / "file" / "cache").get("snow", 8) is None


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache = on_disk(tmp_path)
    cache.put("snow", 8, FEATURES)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(cache.get("snow", 8), FEATURES)


def test_the_folder_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    on_disk(tmp_path).put("probe", 8, FEATURES)
    each = files(tmp_path)[0].stat().st_size
    (tmp_path / "notes.txt").write_text("not of the cache")
    (tmp_path / ".left.part").write_bytes(b"x" * each)
    os.utime(tmp_path / ".left.part", (1, 1))
    cache = on_disk(tmp_path, disk_bytes=3 * each)
    for text in ("a", "b"):
        cache.put(text, 8, FEATURES)
    for path in files(tmp_path):
        os.utime(path, (2, 2))
    assert on_disk(tmp_path).get("a", 8) is not None
    cache.put("c", 8, FEATURES)
    found = [text for text in ("probe", "a", "b", "c") if on_disk(tmp_path).get(text, 8) is not None]
    assert len(found) == 3 and {"a", "c"} < set(found)
    assert (tmp_path / "notes.txt").exists() and not (tmp_path / ".left.part").exists()


def test_features_beyond_the_bounds_are_not_kept(tmp_path: Path) -> None:
    cache = on_disk(tmp_path, memory_bytes=FEATURES.nbytes - 1, disk_bytes=FEATURES.nbytes - 1)
    cache.put("snow", 8, FEATURES)
    assert cache.get("snow", 8) is None and files(tmp_path) == []


def test_memory_stays_within_its_bound() -> None:
    cache = EmbeddingCache(memory_bytes=2 * FEATURES.nbytes)
    for text in ("a", "b"):
        cache.put(text, 8, FEATURES)
    assert cache.get("a", 8) is not None
    cache.put("a", 8, FEATURES)
    cache.put("c", 8, FEATURES)
    assert [cache.get(text, 8) is not None for text in ("a", "b", "c")] == [True, False, True]


def test_features_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    cache = on_disk(tmp_path)
    cache.put("snow", 8, FEATURES / 0)
    assert cache.get("snow", 8) is None and files(tmp_path) == []


def test_threads_that_write_and_shrink_at_once_fail_nothing(tmp_path: Path) -> None:
    on_disk(tmp_path).put("probe", 8, FEATURES)
    bound = 3 * files(tmp_path)[0].stat().st_size
    errors: list[BaseException] = []

    def work(name: int) -> None:
        cache = on_disk(tmp_path, memory_bytes=0, disk_bytes=bound)
        try:
            for i in range(20):
                cache.put(f"{name} {i}", 8, FEATURES)
                kept = cache.get(f"{(name + 1) % 3} {i}", 8)
                assert kept is None or torch.equal(kept, FEATURES)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("kind", ["t5", "clip"])
def test_a_cached_embedder_gives_the_embedder_s_features(tmp_path: Path, kind: str) -> None:
    write = {"t5": text_encoders.write_t5, "clip": text_encoders.write_clip}[kind]
    embedder = HFEmbedder(write(tmp_path / kind), 8)
    texts = ["a red ball", "", "snow", "a red ball"]
    align = {"added_tokens": 3, "seq_align": 4 if kind == "t5" else 1}
    cached = CachedEmbedder(embedder, on_disk(tmp_path / "cache"))
    first, again = cached(texts, **align), CachedEmbedder(embedder, on_disk(tmp_path / "cache"))(texts, **align)
    assert torch.equal(first, again) and len(files(tmp_path / "cache")) == 3
    assert all(torch.equal(first[i], embedder(text, **align)[0]) for i, text in enumerate(texts))
    torch.testing.assert_close(first, embedder(texts, **align))
    assert torch.equal(cached("snow", **align)[0], first[2])
    if kind == "t5":
        assert (first.shape[1], cached("snow").shape[1]) == (9, 8)


def test_t5_reads_features_from_disk_as_it_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = text_encoders.write_t5(tmp_path / "t5")
    texts = ["a red ball", "", "snow"]

    def encoder() -> T5Encoder:
        made = T5Encoder.from_pretrained(folder, max_length=8)
        made.cache = on_disk(tmp_path / "cache")
        return made

    plain = T5Encoder.from_pretrained(folder, max_length=8).encode(texts)
    first = encoder().encode(texts)
    reader = encoder()
    monkeypatch.setattr(reader.t5, "embed", lambda texts: pytest.fail("encoded again"))
    for again in (first, reader.encode(texts), reader.encode(texts)):
        assert torch.equal(again["y"], plain["y"]) and torch.equal(again["mask"], plain["mask"])


def test_tokens_left_out_change_nothing_but_rounding(tmp_path: Path) -> None:
    """Against the whole padded length, on every token that counts; behind it there are zeros."""
    encoder = T5Encoder.from_pretrained(text_encoders.write_t5(tmp_path, num_layers=3), max_length=12)
    texts = ["a red ball", "", "snow over mountains, a blue boat on the sea, a bird"]
    ids, mask = encoder.t5.embedder.tokenize(texts)
    expected: Tensor = encoder.t5.embedder.encode(ids, mask)
    encoded = encoder.encode(texts)
    counts = encoded["mask"].bool()
    assert torch.equal(encoded["mask"], mask) and 1 in counts.sum(1) and int(counts.sum(1).max()) == 12
    torch.testing.assert_close(encoded["y"][:, 0][counts], expected[counts], rtol=1e-5, atol=1e-6)
    assert not encoded["y"][:, 0][~counts].any()
    together, _ = encoder.t5.embed(texts[:2])
    assert together.shape[1] == int(counts[:2].sum(1).max())
