"""`affectline models export`: models of optional packages as ONNX, each with a report of how well it agrees."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from affectline.models.convert.deepface_parity import deepface_parity
from affectline.models.errors import InvalidInputError, StorageError
from affectline.models.exported import file_sha256, seal
from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.pipelines.media import open_recording
from affectline.pipelines.resample import Resampler
from affectline.server.files import write_whole
from affectline.server.models_cli import one_sentence

app = typer.Typer(help="Write a model of an optional package as ONNX.", no_args_is_help=True)

PARITY: Final = "parity.json"
MAX_WINDOWS: Final = 4
"""Of a sample that are compared; two minutes."""


@app.command()
def whisper(
    checkpoint: Annotated[
        str,
        typer.Option(
            help="Published name (tiny, base.en, large-v3-turbo, …), or path of a checkpoint of openai-whisper."
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write; it must not exist yet, or be empty.")],
    precision: Annotated[str, typer.Option(help="int8 (for CPUs), fp16 (for GPUs) or fp32.")] = "int8",
    heads_of: Annotated[
        str | None,
        typer.Option(
            help="Published checkpoint from which this one was fine-tuned, so that word times are as good as its."
        ),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Recording of speech to compare transcripts on; a made-up sound by default.",
        ),
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write Whisper for `--speech-model`, beside openai-whisper on the same sound. Exit code 1 when they disagree.

    Needs the extra `whisper`. The report is also written into the folder, as parity.json.
    """
    from affectline.models.convert import openai_whisper, whisper_parity
    from affectline.models.zoo.whisper import WhisperEncoder, WhisperRecogniser

    with one_sentence():
        if precision not in ("int8", "fp16", "fp32"):
            raise InvalidInputError(f"expected a precision of int8, fp16 or fp32; found {precision!r}")
        sound = _mono(sample) if sample else whisper_parity.made_up()
        windows = whisper_parity.windows_of(sound, MAX_WINDOWS)
        loaded = openai_whisper.load(checkpoint, heads_of=heads_of)

        def write(folder: Path) -> dict[str, Any]:
            facts = openai_whisper.write(loaded, folder, precision)  # type: ignore[arg-type]
            runtime = Runtime(["cpu"])
            parity = whisper_parity.compare(
                loaded.model,
                WhisperEncoder(folder, runtime),
                WhisperRecogniser(folder, runtime),
                windows,
                precision,  # type: ignore[arg-type]
            )
            report = {**facts, "sample": "recording" if sample else "made-up sound", **parity.document()}
            (folder / PARITY).write_text(json.dumps(report, indent=1) + "\n")
            seal(folder, {"kind": "whisper", **facts})
            return report

        report = _into(out, write)
    _tell(report, out, json_out, _whisper_rows(report))


@app.command()
def deepface(
    out: Annotated[Path, typer.Option(dir_okay=False, help="ONNX file to write, for `--face-model`.")],
    weights: Annotated[
        Path | None,
        typer.Option(help="facial_expression_model_weights.h5; where DeepFace keeps it (DEEPFACE_HOME) by default."),
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write DeepFace's emotion network, so that it runs without DeepFace and TensorFlow.

    Where the extra `deepface` is installed, both are compared on the same faces; exit code 1 when they disagree.
    """
    from affectline.models.convert import deepface as conversion
    from affectline.models.zoo.deepface import weights_path

    with one_sentence():
        source = weights or weights_path()
        if not source.is_file():
            raise InvalidInputError(f"expected DeepFace's emotion weights at {source}, found none")
        if out.suffix != ".onnx":
            raise InvalidInputError(f"expected a file NAME.onnx to write, found {out}")
        if not out.parent.is_dir():
            raise InvalidInputError(f"expected a folder to write {out} into, found none")
        with TemporaryDirectory(prefix="affectline-") as place:
            made = Path(place) / out.name
            conversion.convert(source, made)
            report: dict[str, Any] = {"name": out.stem, "precision": "fp32", "weights_sha256": file_sha256(source)}
            report |= deepface_parity(made, source)
            write_whole(out, made.read_bytes())
    said = _difference(report["probabilities"]) if report["compared"] else "not compared: the extra deepface is missing"
    _tell(report, out, json_out, [("probabilities", said)])


def _whisper_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    said = (
        f"{report['transcripts_equal']} of {report['windows']} the same, {report['transcript_similarity']:.0%} of words"
    )
    heads = report["alignment_heads_of"]
    return [
        *((name, _difference(report[name])) for name in ("encoder", "logits")),
        ("transcripts", f"{said} ({report['sample']})"),
        ("word times", f"alignment heads of {heads}" if heads else "all heads of the upper layers: less sharp"),
    ]


def _difference(found: dict[str, float]) -> str:
    return f"at most {found['max_absolute']:.2g}, mean {found['mean_absolute']:.2g}, relative {found['relative']:.2g}"


def _tell(report: dict[str, Any], out: Path, json_out: bool, rows: list[tuple[str, str]]) -> None:
    """The report on standard output, and the exit code."""
    disagrees = report["holds"] is False
    if json_out:
        typer.echo(json.dumps(report, indent=1))
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*row)
        console = Console(highlight=False)
        console.print(
            f"[bold]{report['name']}[/] {report['precision']}, beside the package it comes from", table, sep="\n"
        )
        if report["holds"] is not None:
            verdict = "[red]disagrees[/]" if disagrees else "[green]agrees[/]"
            console.print(f"{verdict}: relative difference up to {report['max_relative']:g} was expected")
        console.print(f"Written to {out}", soft_wrap=True)
    if disagrees:
        raise typer.Exit(1)


def _into(out: Path, write: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Has a folder written beside `out` and renames it, so that `out` is whole or not there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInputError(f"expected a new or empty folder, found {out}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
            folder = Path(place) / "out"
            folder.mkdir()
            report = write(folder)
            if out.exists():
                out.rmdir()
            shutil.move(folder, out)
        return report
    except OSError as error:
        raise StorageError(f"expected to write {out}, found: {error.strerror}") from error


def _mono(path: Path) -> F32:
    """The first two minutes of a recording, channels mixed, at RATE_HZ. Raises InvalidInputError."""
    recording = open_recording(path)
    if not recording.has_sound:
        raise InvalidInputError(f"expected sound in {path}, found none")
    channels: list[list[F32]] = [[] for _ in range(recording.channels)]
    needed = 120 * recording.rate_hz
    for chunk in recording.chunks():
        channels[chunk.channel].append(chunk.pcm)
        if chunk.start_sample + len(chunk.pcm) >= needed and chunk.channel == recording.channels - 1:
            break
    mixed = np.asarray(np.mean([np.concatenate(parts)[:needed] for parts in channels], axis=0), np.float32)
    resampler = Resampler(recording.rate_hz)
    pcm = np.concatenate((resampler.feed(mixed), resampler.finish()))
    if not len(pcm):
        raise InvalidInputError(f"expected sound in {path}, found none")
    return np.asarray(pcm[: 120 * RATE_HZ], np.float32)
