"""The reference numbers: every file is used, all are small, and their weight rule is the one they were made by."""

import ast
import fnmatch
from functools import cache
from pathlib import Path

import golden_io
import pytest
import torch

TESTS = Path(__file__).parent
FILES = sorted(path for path in golden_io.GOLDEN.rglob("*") if path.is_file())


@cache
def names_in_tests() -> frozenset[str]:
    """Every string in the tests, also the constant parts of formatted ones, with ``*`` for what is filled in."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values]
                found.add("".join(parts))
    return frozenset(name for name in found if any(letter.isalpha() for letter in name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_named_by_a_test(path: Path) -> None:
    name = golden_io.name_of(path)
    forms = {path.stem, name, f"{name}{path.suffix}"}
    assert any(fnmatch.fnmatchcase(form, pattern) for pattern in names_in_tests() for form in forms)


def test_reference_numbers_stay_small() -> None:
    assert sum(path.stat().st_size for path in FILES) <= 32 * 1024**2


def test_the_weight_rule() -> None:
    """Matrices have variance 1 / inputs, gains lie around 1, biases around 0, and a name always gives the same."""
    weight = golden_io.values("salt", "a.weight", (64, 256))
    assert float(weight.std()) == pytest.approx(1 / 16, rel=0.05)
    assert float(golden_io.values("salt", "a.weight", (4096,)).mean()) == pytest.approx(1, abs=0.01)
    assert float(golden_io.values("salt", "a.bias", (4096,)).mean()) == pytest.approx(0, abs=0.01)
    assert torch.equal(weight, golden_io.values("salt", "a.weight", (64, 256)))
    assert not torch.equal(weight, golden_io.values("salt", "b.weight", (64, 256)))


def test_gains_of_the_second_generation() -> None:
    """There ``.scale`` names a gain too, and a name without a dot never does."""
    gain = golden_io.values("v2/salt", "a.scale", (4096,))
    assert float(gain.mean()) == pytest.approx(1, abs=0.01)
    for salt, name in (("v2/salt", "scale"), ("v2/salt", "weight"), ("salt", "a.scale")):
        assert float(golden_io.values(salt, name, (4096,)).mean()) == pytest.approx(0, abs=0.01)


def test_names_of_both_generations() -> None:
    assert golden_io.name_of(golden_io.path_of("layers_v13")) == "layers_v13"
    assert golden_io.name_of(golden_io.path_of("v2/mmdit/layers")) == "v2/mmdit/layers"
    assert "t5_a" in golden_io.names("t5_*")


def test_a_wrong_number_is_noticed() -> None:
    expected = torch.linspace(-1, 1, 100)
    wrong = expected.clone()
    wrong[50] += 1e-3
    recorded = dict(golden_io.records)
    with pytest.raises(AssertionError, match="max error"):
        golden_io.assert_close(wrong, expected, "wrong")
    with pytest.raises(AssertionError, match="of the largest value"):
        golden_io.assert_within(wrong, expected, "wrong", 9e-4)
    golden_io.assert_within(wrong, expected, "wrong", 1.1e-3)
    with pytest.raises(AssertionError, match="shape"):
        golden_io.assert_close(wrong[:50], expected, "wrong")
    assert golden_io.compare(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0])).rel_fro == float("inf")
    golden_io.records.clear()
    golden_io.records.update(recorded)


def test_tolerances_are_those_of_the_reference_numbers() -> None:
    assert (golden_io.MAX_ERROR, golden_io.FROBENIUS) == (1e-4, 2e-5)


def test_records_of_two_processes_keep_the_larger_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_io, "records", {"x": golden_io.Parity(2e-6, 1e-6)})
    monkeypatch.setattr(golden_io, "read", {})
    none = {"max_to_rms": 0.0, "rel_fro": 0.0}
    golden_io.merge({"x": {"max_to_rms": 1e-6, "rel_fro": 1e-6}, "y": none}, {"t5_a": ["out"]})
    assert golden_io.records == {"x": golden_io.Parity(2e-6, 1e-6), "y": golden_io.Parity(0.0, 0.0)}
    assert golden_io.read == {"t5_a": {"out"}}
    assert "t5_a: out" not in golden_io.unread() and "t5_a: in.input_ids" in golden_io.unread()
