"""What is wrong with a LoRA's file is said in the language of the page."""

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from opensora.checkpoint.lora import LoraError, open_lora
from opensora.sentences import pack, unpack
from opensora.ui.words import LANGUAGES

KOREAN = LANGUAGES["ko"]


def refused(path: Path) -> str:
    """Why a LoRA cannot be used, in Korean, as it comes back from a database."""
    with pytest.raises(LoraError) as caught:
        open_lora(path)
    english = str(caught.value)
    assert unpack(pack(english), "") == english
    return KOREAN.tell(unpack(pack(english), ""))


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "style.bin").write_bytes(b"x")
    assert refused(tmp_path / "no.safetensors").startswith("'no.safetensors': 그런 LoRA가 없습니다.")
    assert "이름이 .safetensors로 끝나지 않습니다" in refused(tmp_path / "style.bin")


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "style.safetensors").write_bytes(b"\x02" * 40)
    assert refused(tmp_path / "style.safetensors") == (
        "LoRA style.safetensors 파일을 쓸 수 없습니다: style.safetensors: safetensors 파일이 아니거나 앞부분이 "
        "손상되었습니다."
    )


def test_tensors_that_are_no_pairs_are_listed(tmp_path: Path) -> None:
    half = np.zeros((2, 8), np.float32)
    save_file({"encoder.block.0.lora_A.weight": half, "extra": half}, tmp_path / "style.safetensors")
    told = refused(tmp_path / "style.safetensors")
    assert told.splitlines() == [
        "LoRA style.safetensors 파일을 쓸 수 없습니다(텐서 2개, lora_A.weight와 lora_B.weight의 짝이어야 함):",
        "  짝이 없는 텐서 1개: extra",
        "  반쪽만 있는 층 1개: encoder.block.0",
        "다음 모델의 것으로 보입니다: 텍스트 인코더.",
    ]
    assert not re.search("[a-z]{3,} [a-z]{2,} ", told)
