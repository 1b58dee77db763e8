"""`affectline tune`: measures how this machine analyses most calls at a time, and writes the settings for it."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Final

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from affectline.models.errors import InvalidInputError
from affectline.models.runtime import Runtime
from affectline.models.signals import AudioChunk
from affectline.pipelines.media import open_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import Participant, Role
from affectline.server.engine import Engine
from affectline.server.files import write_whole
from affectline.server.models_cli import one_sentence
from affectline.server.pace import SharedPace

MAX_SOUND_S: Final = 60
"""So much of a recording is used."""
CALLS_PER_CORE: Final = 4
ALIKE: Final = 0.03
"""Throughputs that differ less than this are taken as the same; then the one whose results come sooner is better."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How one way to share the cores did."""

    threads: int
    workers: int
    times_real_time: float
    """Seconds of call analysed per second."""
    final_p95_s: float
    """What a final result took, its wait for a turn included."""


def tune(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A recording of one of your calls, at least 20 s of it.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write `threads` and `workers` as settings there: for `affectline serve`.")
    ] = None,
) -> None:
    """Try out how many threads and how many utterances at a time this machine carries most calls with."""
    with one_sentence():
        chunks, config = _call(file)
        cores = os.cpu_count() or 1
        ways = [(threads, workers) for threads in _steps(cores) for workers in _steps(2 * cores)]
        with _progress() as progress:
            trials = [
                _try(chunks, config, *way, calls=CALLS_PER_CORE * cores)
                for way in progress.track(ways, description="trying")
            ]
        best = choose(trials)
        if output:
            write_whole(output, yaml.safe_dump({"threads": best.threads, "workers": best.workers}).encode())
    table = Table("threads", "at a time", "× real time", "final result, p95", box=None, padding=(0, 2, 0, 0))
    for trial in trials:
        style = "bold" if trial is best else ""
        row = (str(trial.threads), str(trial.workers), f"{trial.times_real_time:.1f}", f"{trial.final_p95_s:.2f} s")
        table.add_row(*row, style=style)
    console = Console()
    console.print(table)
    console.print(f"Best: threads {best.threads}, workers {best.workers}.", style="green")
    if output:
        console.print(f"Written to {output}: affectline serve --config {output}")


def choose(trials: Sequence[Trial]) -> Trial:
    """The one that carries most calls; of those that carry as many, the one whose results come soonest."""
    most = max(trial.times_real_time for trial in trials)
    alike = [trial for trial in trials if trial.times_real_time >= (1 - ALIKE) * most]
    return min(alike, key=lambda trial: trial.final_p95_s)


def _steps(most: int) -> list[int]:
    """1, 2, 4, … up to `most`."""
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def _call(file: Path) -> tuple[list[AudioChunk], CallConfig]:
    recording = open_recording(file)
    chunks = [chunk for chunk in recording.chunks() if chunk.start_sample < MAX_SOUND_S * chunk.rate_hz]
    if not chunks:
        raise InvalidInputError(f"expected a recording with sound, found none in {file}")
    roles: list[Role] = ["customer" if channel == 0 else "agent" for channel in range(recording.channels)]
    parties = tuple(Participant(f"{role} {channel}", role, channel, "granted") for channel, role in enumerate(roles))
    return chunks, CallConfig("tune", parties, recording.rate_hz, interim_results=True, live=True)


def _try(chunks: list[AudioChunk], config: CallConfig, threads: int, workers: int, *, calls: int) -> Trial:
    """All calls at once, each as fast as it goes; the first ones, by which everything is loaded, do not count."""
    engine = Engine(runtime=Runtime(threads=threads))
    took_s: list[float] = []
    engine.pace = SharedPace(workers, took=took_s.append)

    def one(_: int) -> float:
        session = engine.open(config)
        for chunk in chunks:
            session.push(chunk)
        session.finish()
        return session.received_us / 1e6

    one(0)
    took_s.clear()
    started_s = monotonic()
    with ThreadPoolExecutor(calls) as pool:
        heard_s = sum(pool.map(one, range(calls)))
    elapsed_s = monotonic() - started_s
    ranked = sorted(took_s)
    return Trial(threads, workers, heard_s / elapsed_s, ranked[int(0.95 * (len(ranked) - 1))] if ranked else 0.0)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True
    )
