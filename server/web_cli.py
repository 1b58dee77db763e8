"""`affectline web`: who may sign in to the web pages."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
import yaml

from affectline.models.errors import InvalidInputError
from affectline.server.files import write_whole
from affectline.server.models_cli import one_sentence
from affectline.server.web.access import NAME, ROLES, hashed, read_users

app = typer.Typer(help="Who may sign in to the web pages.", no_args_is_help=True)

LEAST_CHARACTERS = 10


@app.callback()
def _web() -> None:
    """Who may sign in to the web pages."""


@app.command("add-user")
def add_user(
    name: Annotated[str, typer.Argument(help="As they sign in.")],
    file: Annotated[Path, typer.Option(help="File of users, as in the setting `web_users`; made where there is none.")],
    role: Annotated[
        str,
        typer.Option(
            help="supervisor: all pages. analyst: calls without sound and pictures, and insights. agent: the live view "
            "of one call, by its link."
        ),
    ],
    generate: Annotated[bool, typer.Option("--generate", help="Make up a password and print it.")] = False,
) -> None:
    """Add a user, or give one another password or role. A running server reads the file when it starts again."""
    with one_sentence():
        if not NAME.fullmatch(name):
            raise InvalidInputError(f"expected a name of up to 64 letters, digits and . @ + - _, found {name!r}")
        if role not in ROLES:
            raise InvalidInputError(f"expected a role of {', '.join(ROLES)}; found {role!r}")
        known = {key: user.model_dump() for key, user in read_users(file).items()} if file.exists() else {}
        password = secrets.token_urlsafe(12) if generate else typer.prompt("Password", hide_input=True)
        if len(password) < LEAST_CHARACTERS:
            raise InvalidInputError(
                f"expected a password of at least {LEAST_CHARACTERS} characters, found a shorter one"
            )
        if not generate and typer.prompt("Again", hide_input=True) != password:
            raise InvalidInputError("expected the same password twice, found two")
        known[name] = {"role": role, "password": hashed(password)}
        file.touch(mode=0o600)
        write_whole(file, yaml.safe_dump({"users": known}).encode())
        file.chmod(0o600)
    typer.echo(f"{name} may sign in as {role}." + (f" Password: {password}" if generate else ""))
