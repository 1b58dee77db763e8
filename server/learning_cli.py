"""`affectline outcomes`, `feedback` and `insights`: what became of calls, and what that teaches."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from affectline.models.errors import AffectlineError, InvalidInputError, StorageError
from affectline.pipelines.outcomes import OUTCOME_KINDS, SCALES, CallDetails, Outcome
from affectline.pipelines.timeline import CallTimeline
from affectline.server.files import write_whole
from affectline.server.look import clean
from affectline.server.models_cli import one_sentence

if TYPE_CHECKING:
    from affectline.server.store.calls import CallStore

outcomes = typer.Typer(help="What became of calls.", no_args_is_help=True)
insights = typer.Typer(help="What stored calls teach.", no_args_is_help=True)

StoreOption = Annotated[
    str,
    typer.Option(
        metavar="PATH|URL", envvar="AFFECTLINE_STORE", help="Where calls are kept, as in the server's settings."
    ),
]

COLUMNS: Final = ("call", "kind", "value")
TRUE_WORDS: Final = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}


def open_store(place: str, *, create: bool = False) -> "CallStore":
    """`create`: a file is made where there is none. Raises InvalidInputError or StorageError."""
    from affectline.server.store.calls import CallStore  # here, since other commands need no database

    return CallStore(place, create=create)


class Keeper:
    """Keeps analysed files, where there is a store; one that cannot be kept is told, and costs no result."""

    def __init__(self, place: str | None) -> None:
        self._store = open_store(place, create=True) if place else None
        self._failed = False

    def __call__(self, call_id: str, timeline: CallTimeline) -> None:
        """A stored call of this id and length gives way; its feedback and outcomes stay."""
        if self._store is None:
            return
        try:
            self._store.add(CallDetails(call_id), timeline, replace=True)
        except AffectlineError as error:
            self._failed = True
            typer.echo(clean(f"affectline: {call_id} was not stored: {error}"), err=True)

    def done(self) -> None:
        """Ends the program with code 1 when something could not be kept."""
        if self._store:
            self._store.close()
        if self._failed:
            raise typer.Exit(1)


@outcomes.callback()
def _outcomes() -> None:
    """What became of calls."""


@outcomes.command("import")
def import_outcomes(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="CSV with the columns call, kind (csat, nps, resolved, churned, escalated) and value; at (ISO 8601) "
            "where it is known.",
        ),
    ],
    store: StoreOption,
) -> None:
    """Record outcomes of stored calls. Every line that cannot be used is told with its number; the others are kept.

    The same file again changes nothing. Another value for a call is kept beside the earlier one, and the newest counts.
    """
    counts: Counter[str] = Counter()
    with one_sentence(), closing(open_store(store)) as calls:
        for line, found in _read_outcomes(file):
            try:
                if isinstance(found, str):
                    raise InvalidInputError(found)
                call_id, outcome = found
                counts["recorded" if calls.record_outcome(call_id, outcome) else "known already"] += 1
            except StorageError:
                raise
            except AffectlineError as error:
                counts["left out"] += 1
                typer.echo(clean(f"line {line}: {error}"), err=True)
    typer.echo(", ".join(f"{counts[what]} {what}" for what in ("recorded", "known already", "left out")))
    if counts["left out"]:
        raise typer.Exit(1)


def _read_outcomes(file: Path) -> Iterator[tuple[int, tuple[str, Outcome] | str]]:
    """(number of the line, the call's id and its outcome or what is wrong with the line)"""
    try:
        source = file.open(encoding="utf-8-sig", errors="replace", newline="")
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror}") from error
    with source:
        reader = csv.reader(source)
        try:
            header = [name.strip().lower() for name in next(reader, [])]
        except csv.Error:
            header = []
        if missing := [name for name in COLUMNS if name not in header]:
            raise InvalidInputError(
                f"expected a first line with {', '.join(COLUMNS)} in {file}, commas between; found none with "
                + ", ".join(missing)
            )
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield reader.line_num, "expected fields separated by commas, found something else"
                continue
            if any(field.strip() for field in row):
                fields = dict(zip(header, (field.strip() for field in row), strict=False))
                try:
                    yield reader.line_num, _outcome(fields)
                except InvalidInputError as error:
                    yield reader.line_num, str(error)


def _outcome(fields: dict[str, str]) -> tuple[str, Outcome]:
    call_id, kind, value = (fields.get(name, "") for name in COLUMNS)
    known = next((each for each in OUTCOME_KINDS if each == kind.lower()), None)
    if not call_id:
        raise InvalidInputError("expected the id of a call, found none")
    if known is None:
        raise InvalidInputError(f"expected a kind of {', '.join(OUTCOME_KINDS)}; found {kind[:40]!r}")
    try:
        number = float(value) if known in SCALES else TRUE_WORDS[value.lower()]
    except (ValueError, KeyError):
        low, high = SCALES.get(known, (0, 1))
        expected = f"a whole number of {low} to {high}" if known in SCALES else "true or false"
        raise InvalidInputError(f"expected {expected} for {known}, found {value[:40]!r}") from None
    try:
        at = datetime.fromisoformat(fields["at"]) if fields.get("at") else None
    except ValueError:
        raise InvalidInputError(f"expected a time in ISO 8601, or none; found {fields['at'][:40]!r}") from None
    return call_id, Outcome(known, number, at if at is None or at.tzinfo else at.replace(tzinfo=UTC))


def feedback(store: StoreOption) -> None:
    """Show what people made of each policy's suggestions."""
    with one_sentence(), closing(open_store(store)) as calls:
        counts = calls.feedback_counts()
    if not counts:
        typer.echo("No stored call has a suggestion yet.")
        return
    table = Table("policy", box=None, padding=(0, 2, 0, 0))
    for name in ("suggested", "accepted", "dismissed", "corrected", "no answer"):
        table.add_column(name, justify="right")
    for each in counts:
        answers = (each.accepted, each.dismissed, each.corrected)
        left = max(0, each.suggested - sum(answers))
        table.add_row(clean(each.policy), *map(str, (each.suggested, *answers, left)))
    Console(markup=False).print(table)


@insights.callback()
def _insights() -> None:
    """What stored calls teach."""


@insights.command("outcomes")
def outcome_insights(
    store: StoreOption,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write one self-contained page.")] = None,
    json_out: Annotated[
        str | None, typer.Option("--json", metavar="OUT|-", help="Write the figures as JSON; - for standard output.")
    ] = None,
    min_group: Annotated[int, typer.Option(min=1, help="Calls with a feature, and without it, to compare at all.")] = 5,
) -> None:
    """Tell which moments and stages of calls go with bad outcomes; what goes with them need not be the cause."""
    from affectline.pipelines.associations import Call, associate, features_of
    from affectline.server.insights import Insights, render_insights_html, render_insights_terminal, to_figures

    with one_sentence():
        with closing(open_store(store)) as kept, Console(stderr=True).status("reading calls …") as status:
            calls, damaged = [], list[str]()
            for each in kept.reviewed_calls(damaged.append):
                calls.append(Call(each.id, features_of(each.timeline, each.accepted), each.outcomes))
                status.update(f"reading calls: {len(calls)}")
        for call_id in damaged:
            typer.echo(clean(f"affectline: the timeline of {call_id} is damaged; it is left out"), err=True)
        found = Insights.of(calls, associate(calls, min_group), min_group)
        if html:
            write_whole(html, render_insights_html(found).encode())
        figures = json.dumps(to_figures(found), ensure_ascii=False, indent=1).encode()
        if json_out == "-":
            sys.stdout.buffer.write(figures + b"\n")
            return
        if json_out:
            write_whole(Path(json_out), figures)
        render_insights_terminal(found, Console())
