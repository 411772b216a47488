"""The users file: hashes only, strict names, keys that can be voided, sentences for what cannot be done."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from opensora.server.users import Users, UsersError

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A users file's text; hashing takes its time on purpose, so it is done once."""
    users = Users(tmp_path_factory.mktemp("users") / "users.json")
    users.add("ada", PASSWORD)
    return users.path.read_text()


@pytest.fixture
def users(tmp_path: Path, ada: str) -> Users:
    path = tmp_path / "users.json"
    path.touch(mode=0o600)
    path.write_text(ada)
    return Users(path)


def test_a_password_opens_its_own_account_only(users: Users) -> None:
    ada = users.by_password("ada", PASSWORD)
    assert ada is not None and ada.name == "ada" and len(ada.owner) >= 32
    assert users.by_password("ada", PASSWORD + " ") is None
    assert users.by_password("bob", PASSWORD) is None


def test_the_file_holds_hashes_and_is_its_owners_alone(users: Users) -> None:
    key = users.new_key("ada")
    text = users.path.read_text()
    assert PASSWORD not in text and key not in text and key.split("_")[2] not in text
    assert json.loads(text)["users"][0]["password"].startswith("$argon2id$")
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    assert PASSWORD not in repr(users.all()) and users.all()["ada"].owner not in repr(users.all())


def test_a_key_works_until_it_is_revoked(users: Users) -> None:
    first, second = users.new_key("ada"), users.new_key("ada")
    assert users.by_key(first) == users.by_key(second) == users.all()["ada"]
    users.revoke("ada", first.split("_")[1])
    assert users.by_key(first) is None and users.by_key(second) is not None
    for wrong in ("", "os", "os__", f"{second}x", second[:-1], second.replace("os_", "ox_"), "os_\ud800_\ud800"):
        assert users.by_key(wrong) is None


def test_a_new_password_keeps_the_jobs_and_ends_the_sessions(users: Users) -> None:
    before = users.all()["ada"]
    after = users.add("ada", "another one!")
    assert after.owner == before.owner and after.stamp != before.stamp
    assert users.by_password("ada", PASSWORD) is None


def test_only_who_was_made_one_is_an_administrator(users: Users) -> None:
    key = users.new_key("ada")
    assert not users.all()["ada"].admin  # also in files from before there were administrators
    users.set_admin("ada", True)
    found = users.by_key(key)
    assert found is not None and found.admin
    users.set_admin("ada", False)
    assert not users.all()["ada"].admin
    with pytest.raises(UsersError, match="no user 'bob'"):
        users.set_admin("bob", True)


def test_changes_from_another_process_are_seen(users: Users) -> None:
    other = Users(users.path)
    assert set(other.all()) == {"ada"}
    users.add("bob", PASSWORD)
    assert set(other.all()) == {"ada", "bob"}
    users.remove("ada")
    assert set(other.all()) == {"bob"}


@pytest.mark.parametrize(
    ("name", "password", "part"),
    [
        ("", PASSWORD, "Got the name ''"),
        ("a b", PASSWORD, "expected up to 64 letters"),
        ("../x", PASSWORD, "expected up to 64 letters"),
        ("eve", "short", "The password has 5 characters; expected 10 to 256."),
        ("eve", "x" * 257, "The password has 257 characters"),
    ],
)
def test_names_and_passwords_that_cannot_be_used(users: Users, name: str, password: str, part: str) -> None:
    with pytest.raises(UsersError, match=part.replace("(", r"\(").replace(".", r"\.")):
        users.add(name, password)
    assert set(users.all()) == {"ada"}


def test_what_is_not_there_is_a_sentence(users: Users, tmp_path: Path) -> None:
    with pytest.raises(UsersError, match="There is no user 'bob'; the users are: ada"):
        users.new_key("bob")
    with pytest.raises(UsersError, match="ada has no key 'x'; the keys are: none"):
        users.revoke("ada", "x")
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UsersError, match=r"is no users file\. Make one with"):
        Users(tmp_path / "broken.json").all()
    assert Users(tmp_path / "none.json").all() == {}


def test_the_command_adds_a_user_with_a_key(tmp_path: Path) -> None:
    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "opensora", "users", *arguments, "--file", str(tmp_path / "u.json")]
        return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=100, check=False)

    added = run("add", "ada", "--password-stdin", given=f"{PASSWORD}\n")
    assert added.returncode == 0 and "ada can log in" in added.stdout
    key = run("key", "ada").stdout.strip()
    found = Users(tmp_path / "u.json").by_key(key)
    assert found is not None and found.name == "ada"
    refused = run("add", "bob", "--password-stdin", given="short\n")
    assert refused.returncode == 2 and refused.stderr == "The password has 5 characters; expected 10 to 256.\n"
