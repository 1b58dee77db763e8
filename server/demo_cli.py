"""`affectline demo`: a store with made-up calls to look around in."""

import random
import shlex
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import soundfile
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from affectline.models.errors import InvalidInputError
from affectline.pipelines.chat import ChatConfig, analyze_chat
from affectline.pipelines.media import open_recording
from affectline.pipelines.outcomes import Feedback
from affectline.pipelines.recorded import analyze_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Verdict
from affectline.server import models_cli
from affectline.server.models_cli import one_sentence

if TYPE_CHECKING:
    from affectline.server.demo.material import Chat, Sound
    from affectline.server.engine import Engine
    from affectline.server.store.calls import CallStore

EXAMPLE: Final = Path("examples/dealership_call.flac")
"""In a checkout, which is where the program is or where it is run; an installed package comes without it."""
SOUND_SHARE: Final = 0.2
DEMO_KEY: Final = b"a key for made-up agents"
FEEDBACK_SHARE: Final = 0.4
VERDICTS: Final[tuple[Verdict, ...]] = ("accepted", "accepted", "dismissed")


def demo(
    store: Annotated[
        str, typer.Option(metavar="PATH|URL", help="A new store, or an empty one; it is made where there is none.")
    ] = "demo.db",
    calls: Annotated[int, typer.Option(min=1, max=1_000, help="How many calls and chats.")] = 40,
    seed: Annotated[int, typer.Option(help="The same seed makes the same calls.")] = 7,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The calls lie in the four weeks before this day; today when absent."),
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            envvar="AFFECTLINE_WEB_MEDIA",
            help="Keep the sound of the calls in it, for the web pages to play.",
        ),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A recording of two channels; the example call by default."),
    ] = None,
) -> None:
    """Fill a store with made-up calls, to look around in. Each is analysed by the real models, and marked as demo."""
    from affectline.server.demo import material
    from affectline.server.engine import Engine
    from affectline.server.kept_sound import keep_sound
    from affectline.server.store.calls import CallStore
    from affectline.server.store.query import Queries

    console = Console(stderr=True)
    day = (until or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    with one_sentence(), closing(CallStore(store, customer_key=DEMO_KEY)) as kept:
        if found := Queries(kept).list_calls(page_size=1).total:
            raise InvalidInputError(f"expected a new or empty store for the demo, found one with {found} calls")
        if names := models_cli.missing():
            console.print("Fetching the models, once (about 240 MB) …", style="bold")
            models_cli.pull(names)
        places = (Path(__file__).resolve().parents[1] / EXAMPLE, EXAMPLE)
        source = recording or next((place for place in places if place.is_file()), None)
        spoken = max(1, round(calls * SOUND_SHARE)) if source else 0
        if not source:
            console.print("The example recording is not here, so there are chats only; --recording takes another one.")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar, TemporaryDirectory() as folder:
            task = bar.add_task("loading the models", total=calls)
            engine, chance = Engine(), random.Random(f"feedback {seed}")
            for chat in material.chats(calls - spoken, seed, day):
                bar.update(task, description="reading chats")
                _keep(kept, chat, analyze_chat(_chat_config(chat), chat.turns, engine.open_chat), chance)
                bar.advance(task)
            for sound in material.sounds(source, spoken, seed, day) if source else ():
                bar.update(task, description="listening to calls")
                path = Path(folder, "call.wav")
                timeline = _listen(sound, path, engine)
                _keep(kept, sound, timeline, chance)
                if media:
                    keep_sound(media, sound.details.id, open_recording(path), timeline)
                bar.advance(task)
    typer.echo(f"{calls} made-up calls are in the store now. They are marked as demo, by name and by a flag.")
    played = f"AFFECTLINE_WEB_MEDIA={shlex.quote(str(media))} " if media else ""
    typer.echo(
        "To look at them in the browser on http://127.0.0.1:8080:\n"
        f"  AFFECTLINE_WEB_ADDRESS=127.0.0.1:8080 AFFECTLINE_WEB_OPEN=true {played}"
        f"AFFECTLINE_STORE={'URL' if '://' in store else shlex.quote(store)} affectline serve"
    )


def _chat_config(chat: "Chat") -> ChatConfig:
    from affectline.server.demo.material import PARTIES

    return ChatConfig(chat.name, PARTIES)


def _listen(sound: "Sound", path: Path, engine: "Engine") -> CallTimeline:
    from affectline.server.demo.material import PARTIES

    soundfile.write(path, sound.pcm, sound.rate_hz, subtype="PCM_16")
    recording = open_recording(path)
    parties = PARTIES[: recording.channels]
    return analyze_recording(recording, CallConfig(sound.name, parties, recording.rate_hz), engine.open)


def _keep(store: "CallStore", made: "Chat | Sound", timeline: CallTimeline, chance: random.Random) -> None:
    """With what the story says became of it, and with what some agent made of the suggestions."""
    store.add(made.details, timeline)
    for outcome in made.outcomes:
        store.record_outcome(made.details.id, outcome)
    for suggestion in timeline.suggestions:
        if chance.random() < FEEDBACK_SHARE:
            store.record_feedback(
                made.details.id, Feedback(suggestion.id, chance.choice(VERDICTS), at=made.details.started)
            )
