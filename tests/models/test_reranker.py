"""The reranker on random weights: shapes, padding, order, place, and weights that are not its own."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from opensora.checkpoint import safetensors_io
from opensora.models.reranker import Reranker, RerankerConfig

CONFIG = RerankerConfig(in_channels=4, caption_channels=16, width=12, depth=2, vectors=3, dim=8)


@pytest.fixture
def reranker() -> Reranker:
    torch.manual_seed(0)
    return Reranker(CONFIG).requires_grad_(False).eval()


def test_scores_have_a_row_for_every_text_and_a_column_for_every_picture_of_any_size(reranker: Reranker) -> None:
    y, mask = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.int64)
    for height, width in ((18, 32), (32, 18), (8, 8)):
        scores = reranker(torch.randn(5, 4, height, width), y, mask)
        assert scores.shape == (2, 5) and scores.abs().max() <= reranker.log_scale.exp()


def test_padding_and_company_change_no_score(reranker: Reranker) -> None:
    z, y = torch.randn(3, 4, 8, 8), torch.randn(2, 5, 16)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    scores = reranker(z, y, mask)
    alone = reranker(z[1:2], y[1:, :2], mask[1:, :2])
    assert torch.allclose(scores[1, 1], alone[0, 0], atol=1e-6)
    filled = torch.where(mask[..., None] == 1, y, torch.full_like(y, 9.0))
    assert torch.allclose(reranker(z, filled, mask), scores, atol=1e-6)


def test_where_a_thing_stands_and_when_it_is_named_changes_the_score(reranker: Reranker) -> None:
    z, y, mask = torch.randn(1, 4, 8, 16), torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.int64)
    moved = torch.cat([z[..., 8:], z[..., :8]], dim=-1)
    swapped = torch.cat([y[:, 3:], y[:, :3]], dim=1)
    score = reranker(z, y, mask)
    assert (reranker(moved, y, mask) - score).abs() > 1e-3 and (reranker(z, swapped, mask) - score).abs() > 1e-3


def test_it_loads_what_was_saved_and_nothing_else(reranker: Reranker, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(asdict(CONFIG)))
    safetensors_io.save(reranker, tmp_path / "model.safetensors", {"role": "reranker"})
    z, y, mask = torch.randn(3, 4, 8, 8), torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.int64)
    again = Reranker.from_pretrained(tmp_path).requires_grad_(False)
    assert torch.allclose(again(z, y, mask), reranker(z, y, mask), atol=1e-6) and not again.training
    safetensors_io.save(reranker, tmp_path / "model.safetensors", {"role": "vae"})
    with pytest.raises(ValueError, match="vae"):
        Reranker.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**asdict(CONFIG), "heads": 4}))
    with pytest.raises(ValueError, match="heads"):
        Reranker.from_pretrained(tmp_path)
