"""`affectline policies`: check a pack, run its cases, and try it on calls of the past."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from affectline.models.errors import InvalidInputError
from affectline.pipelines.cues import load_cues
from affectline.pipelines.policy import load_policies
from affectline.pipelines.policy_cases import CaseResult, cases_path, load_cases, run_case
from affectline.pipelines.policy_replay import ReplayTally
from affectline.server.engine import default_labels
from affectline.server.exports import from_json
from affectline.server.look import clean, length
from affectline.server.models_cli import one_sentence

app = typer.Typer(help="Check policies, run their cases, try them on calls of the past.", no_args_is_help=True)

PIPED_COLUMNS = 200
VERDICTS = ("yes", "no", "fixed")
MAX_TIMELINE_BYTES = 512 * 2**20

PackFile = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="YAML file of policies.")]
CueFiles = Annotated[
    list[Path] | None,
    typer.Option("--cues", exists=True, dir_okay=False, help="YAML file that adds to the cue lexicon; repeatable."),
]


@app.command()
def check(file: PackFile) -> None:
    """Read a pack and say what is wrong with it, each fault with its line. Exit code 1 when anything is."""
    with one_sentence():
        pack = load_policies(file, default_labels())
    table = Table("policy", "kind", "priority", "about", "text", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for policy in pack.policies:
        table.add_row(policy.id, policy.kind, policy.priority, policy.when.participant, clean(policy.text))
    console = _console()
    console.print(table, "")
    number = f"{len(pack.policies)} {'policy' if len(pack.policies) == 1 else 'policies'}"
    console.print(clean(f"{file.name} is sound: {number}, {pack.name}@{pack.version}."), style="green")


@app.command("test")
def run_cases(
    file: PackFile,
    cases: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The cases; FILE.cases.yaml beside it by default.")
    ] = None,
    cues: CueFiles = None,
) -> None:
    """Run the cases of a pack. Exit code 1 when any fails."""
    with one_sentence():
        pack = load_policies(file, default_labels())
        path = cases or cases_path(file)
        if not path.is_file():
            raise InvalidInputError(f"expected the cases of {file.name} in {path}, found no such file")
        lexicon = load_cues(*(cues or ()))
        results = [run_case(pack, case, lexicon) for case in load_cases(path, pack)]
    console = _console()
    for result in results:
        _print_result(console, result)
    failed = sum(bool(result.faults) for result in results)
    spoken = {each.policy for result in results for each in result.suggestions}
    if silent := [policy.name for policy in pack.policies if policy.id not in spoken]:
        console.print(f"\nNo case makes these speak: {', '.join(silent)}.", style="yellow")
    passed = f"{len(results) - failed} of {len(results)} cases pass"
    console.print(f"\n{passed}.", style="red" if failed else "green")
    if failed:
        raise typer.Exit(1)


@app.command()
def replay(
    file: PackFile,
    over: Annotated[
        list[Path],
        typer.Option(
            "--over", exists=True, help="Timelines that `analyze --json` wrote, or a folder of them; repeatable."
        ),
    ],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[TIMELINE…]", exists=True, help="Further ones.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Tell how often each policy would have spoken in calls of the past, beside what was suggested then."""
    with one_sentence():
        tally = ReplayTally(load_policies(file, default_labels()))
        paths = _timelines([*over, *(more or ())])
        unread: list[str] = []
        for path in _watched(paths):
            try:
                tally.add(from_json(_read(path)))
            except InvalidInputError as error:
                unread.append(f"{path}: {error}")
        if unread and not tally.calls:
            raise InvalidInputError(unread[0])
    for line in unread:
        typer.echo(clean(f"left out {line}"), err=True)
    if json_out:
        document = {
            "pack": f"{tally.pack.name}@{tally.pack.version}",
            "calls": tally.calls,
            "hours": round(tally.hours, 4),
            "left_out": len(unread),
            "policies": [asdict(count) for count in tally.counts()],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    _print_tally(_console(), tally)


def _print_result(console: Console, result: CaseResult) -> None:
    mark = Text("✗", "red") if result.faults else Text("✓", "green")
    console.print(mark, clean(result.name), style="bold" if result.faults else "", highlight=False)
    for fault in result.faults:
        console.print(f"    {clean(fault)}", style="red", highlight=False)


def _print_tally(console: Console, tally: ReplayTally) -> None:
    counts = tally.counts()
    known = {policy.name for policy in tally.pack.policies}
    heard = [count for count in counts if count.fired or count.suggested]
    judged = any(count.accepted or count.dismissed or count.corrected for count in heard)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("policy", no_wrap=True)
    for title in ("speaks", "calls", "/call", "/hour", "then", "change", *VERDICTS[: 3 * judged]):
        table.add_column(title, justify="right", no_wrap=True)
    for count in heard:
        change = count.fired - count.suggested
        verdicts = (count.accepted, count.dismissed, count.corrected)[: 3 * judged]
        table.add_row(
            clean(count.policy),
            str(count.fired),
            str(count.calls),
            f"{count.per_call:.2f}",
            f"{count.per_hour:.1f}",
            str(count.suggested),
            f"{change:+d}" if change else "·",
            *(str(number or "·") for number in verdicts),
            style=None if count.policy in known else "dim",
        )
    if heard:
        console.print(table, "")
    lines = [f"{tally.calls} {'call' if tally.calls == 1 else 'calls'}, {length(tally.duration_us)} in all."]
    if judged:
        lines.append("yes, no, fixed: accepted, dismissed and corrected by agents, of those made then.")
    if gone := [count.policy for count in heard if count.policy not in known]:
        lines.append(f"Not in this pack: {', '.join(gone)}.")
    if silent := [count.policy for count in counts if not (count.fired or count.suggested)]:
        lines.append(f"Silent: {', '.join(silent)}.")
    for line in lines:
        console.print(clean(line), style="dim")


def _timelines(places: list[Path]) -> list[Path]:
    """Files as given; of folders, every .json below them. Each once, in order."""
    found: dict[Path, None] = {}
    for place in places:
        files = sorted(place.rglob("*.json")) if place.is_dir() else [place]
        found |= dict.fromkeys(files)
    if not found:
        raise InvalidInputError(f"expected timelines in {', '.join(map(str, places))}, found no .json file")
    return list(found)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_TIMELINE_BYTES:
            raise InvalidInputError(f"expected at most {MAX_TIMELINE_BYTES} bytes, found {path.stat().st_size}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"cannot read it: {error.strerror}") from error


def _watched(paths: list[Path]) -> Iterator[Path]:
    """The paths, with a bar on standard error while it is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(paths)


def _console() -> Console:
    """Names and texts come from files: none of them is read as markup."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPED_COLUMNS)
