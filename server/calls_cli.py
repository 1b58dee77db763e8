"""`affectline calls` and `affectline export`: stored calls on the command line."""

import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from affectline.models.errors import InvalidInputError, StorageError
from affectline.pipelines.timeline import CallTimeline
from affectline.server.exporters import EXPORTERS, exporter
from affectline.server.exports import from_json
from affectline.server.files import write_whole
from affectline.server.kept_sound import forget_sounds
from affectline.server.learning_cli import StoreOption, open_store
from affectline.server.models_cli import one_sentence

calls = typer.Typer(help="Stored calls.", no_args_is_help=True)


@calls.callback()
def _calls() -> None:
    """Stored calls."""


@calls.command()
def prune(
    store: StoreOption,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Calls that began longer ago than this are deleted.")],
    media: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            envvar="AFFECTLINE_WEB_MEDIA",
            help="Where the server keeps the sound of calls; theirs is deleted, too.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many there are.")] = False,
) -> None:
    """Delete old calls with all that is kept of them; running ones stay. It cannot be undone."""
    before = datetime.now(UTC) - timedelta(days=days)
    with one_sentence(), closing(open_store(store)) as kept:
        if dry_run:
            typer.echo(f"{kept.older(before)} calls began before {before:%Y-%m-%d %H:%M} UTC.")
            return
        with Console(stderr=True).status("deleting calls …") as status:
            count = kept.prune(
                before,
                lambda done: status.update(f"deleting calls: {done}"),
                lambda ids: forget_sounds(media, ids) if media else None,
            )
        typer.echo(f"{count} calls that began before {before:%Y-%m-%d %H:%M} UTC were deleted.")


def export(
    call: Annotated[str, typer.Argument(metavar="CALL|FILE.json", help="Id of a stored call, or a timeline as JSON.")],
    kind: Annotated[
        str, typer.Option("--format", help="; ".join(f"{name}: {each.summary}" for name, each in EXPORTERS.items()))
    ],
    store: Annotated[
        str | None, typer.Option(metavar="PATH|URL", envvar="AFFECTLINE_STORE", help="Where the call is kept.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Standard output when absent.")] = None,
) -> None:
    """Write a call in another format."""
    with one_sentence():
        chosen = exporter(kind)
        data = chosen.write(_timeline(call, store))
        if out:
            write_whole(out, data)
        elif sys.stdout.isatty() and kind == "parquet":
            raise InvalidInputError("expected --out FILE for a binary format, found a terminal")
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()


def _timeline(call: str, store: str | None) -> CallTimeline:
    path = Path(call)
    if path.suffix == ".json" and path.is_file():
        try:
            return from_json(path.read_bytes())
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if store is None:
        raise InvalidInputError(f"expected a file {call}, or --store with the call of this id; found neither")
    with closing(open_store(store)) as kept:
        return kept.timeline(call)
