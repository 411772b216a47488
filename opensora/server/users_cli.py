"""``python -m opensora users``: who may use the server, and the keys of their programs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from opensora.server.users import Users

app = typer.Typer(no_args_is_help=True, help="Who may use the server, and the keys of their programs.")

File = Annotated[Path, typer.Option("--file", envvar="OPENSORA_USERS", help="The users file, as for app.py --users.")]
Name = Annotated[str, typer.Argument(help="Name of the user.")]
USERS = Path("users.json")


@app.command()
def add(
    name: Name,
    file: File = USERS,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from the first line of the input.")] = False,
) -> None:
    """Add a user, or give one a new password; it is asked for and not shown."""
    users = _open(file)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    with _Sentences():
        users.add(name, password)
        typer.echo(f"{name} can log in where app.py runs with --users {file}.")


@app.command()
def key(name: Name, file: File = USERS) -> None:
    """Print a new API key of a user. It is shown this once; only its hash is kept."""
    with _Sentences():
        typer.echo(_open(file).new_key(name))


@app.command()
def revoke(name: Name, key_id: Annotated[str, typer.Argument(help="As `list` shows it.")], file: File = USERS) -> None:
    """Make an API key void."""
    with _Sentences():
        _open(file).revoke(name, key_id)
        typer.echo(f"The key {key_id} of {name} is void.")


@app.command()
def remove(name: Name, file: File = USERS) -> None:
    """Remove a user with all keys."""
    with _Sentences():
        _open(file).remove(name)
        typer.echo(f"{name} is removed.")


@app.command()
def admin(
    name: Name,
    file: File = USERS,
    revoke: Annotated[bool, typer.Option("--revoke", help="No longer.")] = False,
) -> None:
    """Let a user change what is installed on the server: download models on the page."""
    with _Sentences():
        _open(file).set_admin(name, not revoke)
        typer.echo(f"{name} is {'no longer ' if revoke else ''}an administrator.")


@app.command("list")
def list_users(file: File = USERS) -> None:
    """List the users and the ids of their keys."""
    with _Sentences():
        for user in _open(file).all().values():
            keys = ", ".join(key.id for key in user.keys) or "none"
            typer.echo(f"{user.name}  keys: {keys}{'  administrator' if user.admin else ''}")


def _open(file: Path) -> "Users":
    from opensora.server.users import Users

    return Users(file)


class _Sentences:
    """What cannot be done is a sentence and status 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        from opensora.server.users import UsersError

        if isinstance(error, UsersError):
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
