"""Tests with the real colossalai run in its own environment (`make test-colossalai`), which must not skip them."""

import os
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session")
def colossalai() -> None:
    """Skip, with the reason, where colossalai is not installed."""
    if find_spec("colossalai") is None:
        if os.environ.get("OPENSORA_REQUIRE_COLOSSALAI") == "1":
            pytest.fail("OPENSORA_REQUIRE_COLOSSALAI=1, but colossalai is not installed.")
        pytest.skip("colossalai is not installed; `make test-colossalai` runs these tests.")
