"""`affectline train`: heads fitted on a deployment's own labelled calls."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from affectline.models.errors import AffectlineError, InvalidInputError
from affectline.server.files import write_whole

app = typer.Typer(help="Fit models on your own labelled calls.", no_args_is_help=True)


@app.callback()
def train() -> None:
    pass


@app.command()
def voice(
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder with labels.csv (path,label,speaker) and clips.")
    ],
    out: Annotated[Path, typer.Option(help="ONNX file to write; its card goes beside it.")] = Path("voice.onnx"),
) -> None:
    """Fit a voice head, in minutes. Use it with `affectline analyze --voice-model FILE`.

    Clips are utterances of up to 15 s, WAV or FLAC; one row each in labels.csv. A few hundred clips of ten or more
    speakers are a start. Speakers are held out in turn to tell how well it does.
    """
    from affectline.models.training import voice as training  # here, since it loads much that other commands need not

    console = Console(stderr=True)
    try:
        if out.suffix != ".onnx":
            raise InvalidInputError(f"expected --out to end in .onnx, found {out}")
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("listening to the clips", total=1.0)
            examples = training.encoded(data, progress=lambda share: bar.update(task, completed=share))
        head, examples, probabilities = training.train(examples, own_calls=True)
        card = training.own_card(out.stem.replace("_", "-"), head, examples, probabilities)
        with TemporaryDirectory() as folder:
            training.save(Path(folder) / out.name, head)
            write_whole(out, (Path(folder) / out.name).read_bytes())
        write_whole(out.with_suffix(".yaml"), yaml.safe_dump(card, sort_keys=False, allow_unicode=True).encode())
    except AffectlineError as error:
        typer.echo(f"affectline: {error}", err=True)
        raise typer.Exit(1) from None
    Console().print(_table(card["metrics"]))
    typer.echo(f"{out}: classes {', '.join(head.classes)}; card in {out.with_suffix('.yaml')}")


def _table(metrics: list[dict[str, Any]]) -> Table:
    table = Table("unit", "band", "clips or windows", "recall, averaged over classes", "95 %", "calibration error")
    for m in metrics:
        interval = " to ".join(f"{value:.3f}" for value in m["uar_95"])
        table.add_row(m["unit"], m["band"], str(m["n"]), f"{m['uar']:.3f}", interval, f"{m['ece']:.3f}")
    return table
