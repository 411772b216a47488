"""What ``app.py`` lets in: this machine alone, unless somebody says otherwise."""

import socket
from pathlib import Path
from typing import Any

import pytest
import typer

import app
from opensora.server.settings import ServerSettings


def started(tmp_path: Path, host: str = "127.0.0.1", **more: Any) -> ServerSettings:
    given: dict[str, Any] = {"users": None, "no_login": False, "allow_hosts": [], "webhook_hosts": []} | more
    with socket.create_server((host, 0)) as listener:
        return app.who_may_come(listener, host, tmp_path, **given)


@pytest.fixture(autouse=True)
def no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACE_ID", "SPACE_HOST", "OPENSORA_WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_login_only_this_machine_is_let_in(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "127.0.0.2"):
        assert started(tmp_path, host).local
    with pytest.raises(typer.BadParameter, match=r"python -m opensora users add NAME.*--no-login") as refused:
        started(tmp_path, "0.0.0.0")
    assert refused.value.param_hint == "--host"


def test_others_are_let_in_with_a_login_or_when_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text('{"users": []}')
    assert started(tmp_path, "0.0.0.0", users=tmp_path / "users.json").users is not None
    assert not started(tmp_path, "0.0.0.0", no_login=True).local


def test_a_space_is_open_where_its_owner_says_so_and_shown_inside_another_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "me/clips")
    monkeypatch.setenv("SPACE_HOST", "me-clips.hf.space")
    settings = started(tmp_path, "0.0.0.0")
    assert settings.allow_hosts == ("me-clips.hf.space",) and settings.framed_by == ("https://huggingface.co",)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"users": Path("nobody.json")}, "There is no users file nobody.json. Make it with: python -m opensora"),
        ({"webhook_hosts": ["a.example"]}, "Set OPENSORA_WEBHOOK_SECRET"),
        ({"allow_hosts": ["a b"]}, "Got 'a b' among the allowed hosts"),
    ],
)
def test_what_cannot_be_is_a_sentence(tmp_path: Path, more: dict[str, Any], part: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        started(tmp_path, **more)
    assert part in refused.value.message
