"""The command line: analyse recordings and chats, serve, stream a call to a server, keep the models."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from affectline.models.errors import AffectlineError, InvalidInputError, StorageError
from affectline.models.runtime import PROVIDERS, Runtime
from affectline.pipelines.chat import ChatConfig, analyze_chat
from affectline.pipelines.chat_file import ROLES, ChatFile, is_chat, read_chat
from affectline.pipelines.media import Encoding, RawFormat, Recording, open_recording
from affectline.pipelines.mono import MonoConfig, analyze_voices, find_voices_of
from affectline.pipelines.recorded import analyze_recording, film_cameras
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Consent, Participant, Role
from affectline.server import (
    calls_cli,
    demo_cli,
    doctor,
    export_cli,
    learning_cli,
    models_cli,
    policies_cli,
    recommend_cli,
    train_cli,
    tune_cli,
    web_cli,
)
from affectline.server.engine import Engine
from affectline.server.exports import to_json, write_csv
from affectline.server.files import write_whole
from affectline.server.look import told
from affectline.server.mono_cli import DiarizerName, MonoCall, RttmOut, Speakers, TurnsIn, mono_call, tell, write_turns
from affectline.server.report import render_html
from affectline.server.sound import to_ogg
from affectline.server.terminal import render_terminal

app = typer.Typer(
    help="Affectline: the emotion timeline of a call, and suggestions with their reasons.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models_cli.app.add_typer(export_cli.app, name="export")
app.add_typer(models_cli.app, name="models")
app.add_typer(policies_cli.app, name="policies")
app.add_typer(train_cli.app, name="train")
app.add_typer(web_cli.app, name="web")
app.add_typer(learning_cli.outcomes, name="outcomes")
app.add_typer(learning_cli.insights, name="insights")
app.add_typer(calls_cli.calls, name="calls")
app.command()(learning_cli.feedback)
app.command()(tune_cli.tune)
app.command()(doctor.doctor)
app.command()(calls_cli.export)
app.command()(demo_cli.demo)

T = TypeVar("T")
LISTEN_SHARE = 0.1
"""Of the progress told: telling voices apart."""

CONSENTS: dict[str, Consent] = {"granted": "granted", "pending": "pending", "denied": "denied"}
ENCODINGS: dict[str, Encoding] = {"s16le": "s16le", "mulaw": "mulaw", "alaw": "alaw"}
DEFAULT_PARTIES = {1: "customer", 2: "customer,agent"}
"""Channels of a recording -> who is taken to be on them."""

Channels = Annotated[
    str | None,
    typer.Option(
        help="Who is on each channel, in order: customer, agent, other, or NAME:ROLE, or - for nobody. "
        "One channel is taken as the customer, two as customer,agent. For a chat: the roles of its writers, "
        "NAME:ROLE,…, where the file does not tell them."
    ),
]
ConsentOption = Annotated[
    str,
    typer.Option(
        help="State that the parties agreed to this analysis: granted, pending or denied for all, "
        "or PARTY=STATE,… Nothing is computed for a party without `granted`."
    ),
]
AgentBasis = Annotated[
    str | None,
    typer.Option(
        help="Legal basis on which the agent's voice is analysed, e.g. 'medical safety study, DPIA 12'; "
        "it is recorded with the result. Without one the agent's voice emotion stays off."
    ),
]
CameraOption = Annotated[
    str | None,
    typer.Option(
        help="Whose face a recording's video shows: a party's name, or - for nobody's; the only customer's when absent."
    ),
]
KeepPictures = Annotated[
    bool,
    typer.Option("--keep-pictures", help="State that the parties agreed that pictures of key moments are kept."),
]
Language = Annotated[str | None, typer.Option(help="Language spoken (en, de, …); found per utterance when absent.")]
Raw = Annotated[
    str | None,
    typer.Option(help="Format of headerless files, ENCODING:RATE_HZ:CHANNELS with s16le, mulaw or alaw."),
]
VoiceModel = Annotated[
    str | None,
    typer.Option(help="Another voice model by its name, or a head made by `affectline train voice` by its path."),
]
FaceModel = Annotated[
    str | None,
    typer.Option(help="Another expression model by its name, or an ONNX file of HSEmotion's kind by its path."),
]
SpeechModel = Annotated[
    str | None,
    typer.Option(help="Another Whisper by its name, or a folder that `affectline models export whisper` wrote."),
]
Providers = Annotated[
    str | None,
    typer.Option(envvar="AFFECTLINE_PROVIDERS", help=f"What may run the networks, in order, of {','.join(PROVIDERS)}."),
]
AcceptLicense = Annotated[bool, typer.Option("--accept-license", help="Use models under a restricted licence.")]
SiteFolder = Annotated[
    Path | None,
    typer.Option("--site", file_okay=False, help="Folder of the site baseline, learnt from call to call."),
]
CueFiles = Annotated[
    list[Path] | None,
    typer.Option("--cues", exists=True, dir_okay=False, help="YAML file that adds to the cue lexicon; repeatable."),
]
PoliciesFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="YAML file of policies.")]


@dataclass(frozen=True, slots=True)
class _Call:
    recording: Recording
    config: CallConfig


@dataclass(frozen=True, slots=True)
class _Chat:
    chat: ChatFile
    config: ChatConfig


@app.command()
def analyze(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            help="Recordings: any usual audio or video file. Chats and e-mail threads: .jsonl, one "
            'turn a line: {"participant": "customer", "text": "…", "at": "2026-05-03T10:15:00Z"}.',
        ),
    ],
    channels: Channels = None,
    consent: ConsentOption = "granted",
    agent_voice_basis: AgentBasis = None,
    camera: CameraOption = None,
    keep_pictures: KeepPictures = False,
    language: Language = None,
    raw: Raw = None,
    speakers: Speakers = None,
    turns: TurnsIn = None,
    diarizer: DiarizerName = None,
    policies: PoliciesFile = None,
    cues: CueFiles = None,
    site: SiteFolder = None,
    voice_model: VoiceModel = None,
    face_model: FaceModel = None,
    speech_model: SpeechModel = None,
    providers: Providers = None,
    accept_license: AcceptLicense = False,
    json_out: Annotated[
        str | None, typer.Option("--json", metavar="OUT|-", help="Write the timeline as JSON; - for standard output.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write one self-contained page.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="OUT", help="Write one row per moment.")] = None,
    rttm: RttmOut = None,
    with_audio: Annotated[
        bool, typer.Option("--with-audio", help="Put the sound into the page, so that it plays.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(metavar="PATH|URL", help="Keep the calls in this store, each under its file's name."),
    ] = None,
) -> None:
    """Analyse recordings and written conversations: prints each one's timeline, and writes it where asked.

    With several files, OUT is a folder that gets one file for each.

    A line of a chat has "participant" (customer, agent, other or a name), "text", and where known "at" (ISO 8601, or
    seconds as a number), "language" (en, de, …) and "role". Without "at", each turn takes as long as it takes to say.
    """
    with _errors():
        several = len(files) > 1
        _check_outputs(files, [html, csv, rttm, Path(json_out) if json_out and json_out != "-" else None])
        sound = {
            "--raw": raw,
            "--with-audio": with_audio,
            "--agent-voice-basis": agent_voice_basis,
            "--site": site,
            "--voice-model": voice_model,
            "--face-model": face_model,
            "--speech-model": speech_model,
            "--keep-pictures": keep_pictures,
            "--speakers": speakers,
            "--turns": turns,
            "--diarizer": diarizer,
            "--rttm": rttm,
        }
        if (given := [name for name, value in sound.items() if value]) and all(map(is_chat, files)):
            raise InvalidInputError(f"expected a recording with {given[0]}, found written conversations only")
        if turns and several:
            raise InvalidInputError(f"expected one recording with --turns, found {len(files)}")
        if turns and diarizer:
            raise InvalidInputError("expected --turns or --diarizer, found both")
        jobs: list[_Call | MonoCall | _Chat] = []
        for path in files:
            if is_chat(path):
                chat = read_chat(path, _roles(channels))
                jobs.append(_Chat(chat, ChatConfig(path.name, _writers(chat, consent), language)))
            else:
                recording = open_recording(path, raw=_raw_format(raw))
                mono = mono_call(
                    recording,
                    path.name,
                    speakers=speakers,
                    turns=turns,
                    diarizer=diarizer,
                    channels=channels,
                    consent=consent,
                    agent_basis=agent_voice_basis,
                    pictures_agreed=keep_pictures,
                    language=language,
                )
                if mono is not None:
                    jobs.append(mono)
                    continue
                if rttm:
                    raise InvalidInputError(f"expected a recording with one channel with --rttm, found {path.name}")
                parties = _participants(recording, channels, consent, agent_voice_basis, keep_pictures)
                cameras = () if camera == "-" else film_cameras(recording, parties, camera)
                config = CallConfig(path.name, parties, recording.rate_hz, language, cameras=cameras)
                jobs.append(_Call(recording, config))
        keep = learning_cli.Keeper(store)
        _fetch_missing()
        engine = Engine(
            runtime=Runtime([name.strip() for name in providers.split(",")]) if providers else None,
            speech_model=speech_model,
            diarizer=diarizer,
            policies=policies,
            cues=cues or (),
            site=site,
            voice_model=voice_model,
            face_model=face_model,
            accept_licences=accept_license,
        )
        for path, job in zip(files, jobs, strict=True):
            voices = None
            with _progress(path.name) as progress:
                if isinstance(job, _Chat):
                    timeline = analyze_chat(job.config, job.chat.turns, engine.open_chat, progress)
                elif isinstance(job, MonoCall):
                    voices = find_voices_of(
                        job.recording,
                        job.config,
                        engine.models,
                        turns=job.turns,
                        progress=lambda share, told=progress: told(LISTEN_SHARE * share),  # type: ignore[misc]
                    )
                    timeline = analyze_voices(
                        job.recording,
                        job.config,
                        voices,
                        engine.open,
                        lambda share, told=progress: told(LISTEN_SHARE + (1 - LISTEN_SHARE) * share),  # type: ignore[misc]
                    )
                else:
                    timeline = analyze_recording(job.recording, job.config, engine.open, progress)
            keep(path.name, timeline)
            if html:
                audio = None
                if with_audio and not isinstance(job, _Chat) and job.recording.has_sound:
                    audio = to_ogg(job.recording, timeline)
                write_whole(_target(html, path, "html", several), render_html(timeline, audio=audio).encode())
            if csv:
                _write_csv(_target(csv, path, "csv", several), timeline)
            if rttm and voices:
                write_turns(_target(rttm, path, "rttm", several), voices, path.stem)
            if json_out == "-":
                sys.stdout.buffer.write(to_json(timeline) + b"\n")
                sys.stdout.flush()
                continue
            if json_out:
                write_whole(_target(Path(json_out), path, "json", several), to_json(timeline))
            console = Console()
            render_terminal(timeline, console)
            if voices:
                tell(voices, console)
            elif isinstance(job, _Call) and _taken_as_customer(job.recording, channels):
                console.print("One channel: everything heard is taken as the customer's.", style="dim")
        keep.done()


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="YAML file with settings.")] = None,
) -> None:
    """Serve the gRPC API; AFFECTLINE_* environment variables win over the settings in the file."""
    from affectline.server import main as server
    from affectline.server.config import load_config

    with _errors():
        settings = load_config(config)
        _fetch_missing()
        server.run(settings)


@app.command()
def call(
    file: Annotated[Path, typer.Argument(help="A recording to stream as if the call were running.")],
    server: Annotated[str, typer.Option(help="HOST:PORT of a server.")] = "127.0.0.1:50051",
    speed: Annotated[float, typer.Option(min=0, help="Times real time; 0 sends as fast as the server takes it.")] = 1.0,
    channels: Channels = None,
    consent: ConsentOption = "granted",
    agent_voice_basis: AgentBasis = None,
    camera: CameraOption = None,
    keep_pictures: KeepPictures = False,
    language: Language = None,
    raw: Raw = None,
    speakers: Speakers = None,
    token: Annotated[str | None, typer.Option(envvar="AFFECTLINE_TOKEN", help="The server's token.")] = None,
    ca: Annotated[Path | None, typer.Option(exists=True, help="PEM file that vouches for the server: TLS.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print only the final timeline, as JSON.")] = False,
) -> None:
    """Stream a recording to a server and watch its timeline grow."""
    with _errors():
        recording = open_recording(file, raw=_raw_format(raw))
        mono = mono_call(
            recording,
            file.name,
            speakers=speakers,
            turns=None,
            channels=channels,
            consent=consent,
            agent_basis=agent_voice_basis,
            pictures_agreed=keep_pictures,
            language=language,
        )
        config: CallConfig | MonoConfig
        if mono is not None:
            config = replace(mono.config, interim_results=not json_lines)
        else:
            parties = _participants(recording, channels, consent, agent_voice_basis, keep_pictures)
            config = CallConfig(
                file.name,
                parties,
                recording.rate_hz,
                language,
                interim_results=not json_lines,
                cameras=() if camera == "-" else film_cameras(recording, parties, camera),
            )
        timeline = asyncio.run(_stream(recording, config, server, speed or None, token, ca, quiet=json_lines))
        if json_lines:
            sys.stdout.buffer.write(to_json(timeline) + b"\n")
        else:
            render_terminal(timeline, Console())


@app.command()
def recommend(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="YAML file with what is known of the call: docs/routing.md."),
    ],
    routing: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="YAML file of queues and rules.")
    ] = None,
    cues: CueFiles = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Recommend where a call might go, how soon and with which greeting; with the reasons."""
    from affectline.server.services.routing import understand_menu

    with _errors():
        request = recommend_cli.read_request(file)
        call = recommend_cli.read_call(request, file)
        ivr = None
        if request.heard:
            _fetch_missing()
            ivr = understand_menu(Engine(cues=cues or ()), request.heard, request.language)
        found, config = recommend_cli.answer(request, ivr, call, routing)
        if json_out:
            typer.echo(recommend_cli.to_json(found))
        else:
            recommend_cli.render(found, config, Console())


async def _stream(
    recording: Recording,
    config: CallConfig | MonoConfig,
    server: str,
    speed: float | None,
    token: str | None,
    ca: Path | None,
    *,
    quiet: bool,
) -> CallTimeline:
    from affectline.server.client import open_channel, stream_call
    from affectline.server.live import LiveCall

    live = LiveCall(() if isinstance(config, MonoConfig) else config.participants)
    console = Console(stderr=quiet)
    async with open_channel(server, ca=ca) as channel:
        with Live(console=console, refresh_per_second=8, transient=True) as screen:
            async for item in stream_call(channel, recording, config, speed=speed, token=token):
                if isinstance(item, CallTimeline):
                    return item
                if not quiet:
                    for line in live.feed(item):
                        console.print(line)
                    screen.update(live.now())
    raise AffectlineError("expected the call's timeline at the end of the stream, found none")


def _fetch_missing() -> None:
    """The first run on a machine fetches the default models."""
    if names := models_cli.missing():
        Console(stderr=True).print("Fetching the models, once (about 255 MB) …", style="bold")
        models_cli.fetch(names, err=True)


def _taken_as_customer(recording: Recording, channels: str | None) -> bool:
    return recording.has_sound and recording.channels == 1 and channels is None


def _participants(
    recording: Recording, channels: str | None, consent: str, agent_basis: str | None, pictures_agreed: bool
) -> tuple[Participant, ...]:
    """Who is on which channel. Raises InvalidInputError when the list does not fit the recording."""
    listed = channels or DEFAULT_PARTIES.get(recording.channels)
    if listed is None:
        raise InvalidInputError(
            f"the recording has {recording.channels} channels: expected --channels to say who is on each, "
            f"e.g. customer,agent{',-' * (recording.channels - 2)}; found nothing"
        )
    names = [name.strip() for name in listed.split(",")]
    if recording.has_sound and len(names) != recording.channels:
        raise InvalidInputError(
            f"expected one party for each of the recording's {recording.channels} channels, "
            f"found {len(names)}: {listed}"
        )
    placed = [(channel, *_role(name)) for channel, name in enumerate(names) if name != "-"]
    states = _consent_of([name for _, name, _ in placed], consent)
    return tuple(
        Participant(name, role, channel, states[name], agent_basis if role == "agent" else None, pictures_agreed)
        for channel, name, role in placed
    )


def _writers(chat: ChatFile, consent: str) -> tuple[Participant, ...]:
    states = _consent_of(list(chat.roles), consent)
    return tuple(Participant(name, role, 0, states[name]) for name, role in chat.roles.items())


def _roles(channels: str | None) -> dict[str, Role]:
    """Name -> role, of the parties that are listed."""
    names = (name.strip() for name in channels.split(",")) if channels else ()
    return dict(_role(name) for name in names if name != "-")


def _role(party: str) -> tuple[str, Role]:
    """Name and role from NAME:ROLE, or from a role that stands for both."""
    name, _, role = party.rpartition(":")
    return name or role, _one_of(role, ROLES, "a role")


def _consent_of(names: list[str], consent: str) -> dict[str, Consent]:
    """Party -> state; InvalidInputError when one has none, or an unknown one has one."""
    states = _consents(consent)
    for name in names:
        if name not in states and "" not in states:
            raise InvalidInputError(f"expected the consent of {name}, found none in {consent!r}")
    if unknown := set(states) - {"", *names}:
        raise InvalidInputError(f"expected consents of {', '.join(names)}, found one of {', '.join(sorted(unknown))}")
    return {name: states.get(name) or states[""] for name in names}


def _consents(text: str) -> dict[str, Consent]:
    """Party -> state; the empty name stands for everyone else."""
    states: dict[str, Consent] = {}
    for part in text.split(","):
        name, _, state = part.strip().rpartition("=")
        states[name] = _one_of(state, CONSENTS, "a consent")
    return states


def _one_of(text: str, known: Mapping[str, T], what: str) -> T:
    if text not in known:
        raise InvalidInputError(f"expected {what} of {', '.join(known)}; found {text!r}")
    return known[text]


def _raw_format(text: str | None) -> RawFormat | None:
    if text is None:
        return None
    encoding, *numbers = text.split(":")
    if len(numbers) != 2 or not all(re.fullmatch("[1-9][0-9]{0,6}", n) for n in numbers):
        raise InvalidInputError(f"expected ENCODING:RATE_HZ:CHANNELS such as mulaw:8000:2, found {text!r}")
    return RawFormat(_one_of(encoding, ENCODINGS, "an encoding"), int(numbers[0]), int(numbers[1]))


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error while it is a terminal; nothing otherwise."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"analysing {name}", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _check_outputs(recordings: list[Path], outs: list[Path | None]) -> None:
    """Whether the results will have places of their own, before anything is analysed."""
    for out in filter(None, outs):
        folder = out if len(recordings) > 1 else out.parent
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError(f"expected a folder for the results of several recordings, found the file {folder}")
        if len(recordings) == 1 and not folder.is_dir():
            raise InvalidInputError(f"expected a folder to write {out} into, found none")
        names = [path.name for path in recordings]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InvalidInputError(f"expected recordings of different names, found several {', '.join(sorted(twice))}")


def _target(out: Path, recording: Path, suffix: str, several: bool) -> Path:
    if not several:
        return out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {out}: {error.strerror}") from error
    return out / f"{recording.name}.{suffix}"


def _write_csv(path: Path, timeline: CallTimeline) -> None:
    table = StringIO(newline="")
    write_csv(timeline, table)
    write_whole(path, table.getvalue().encode())


@contextmanager
def _errors() -> Iterator[None]:
    """One plain sentence and exit code 1 instead of a traceback."""
    try:
        yield
    except AffectlineError as error:
        again = "; trying again may help" if error.retryable else ""
        typer.echo(told(error, again), err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


def main() -> None:
    app()


if __name__ == "__main__":
    main()
