"""The command line for recordings whose voices share one channel: options, who they are, RTTM in and out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from affectline.models.errors import InvalidInputError, StorageError
from affectline.pipelines.chat_file import ROLES
from affectline.pipelines.media import Recording
from affectline.pipelines.mono import MonoConfig, Voices
from affectline.pipelines.speakers import Turn
from affectline.pipelines.timeline import Role
from affectline.pipelines.turns import read_rttm, write_rttm
from affectline.server.files import write_whole

Speakers = Annotated[
    str | None,
    typer.Option(
        help="Of a recording with all voices on one channel: who speaks, in the order in which they are first heard "
        "(agent,customer), or how many (2). Found when absent."
    ),
]
RttmOut = Annotated[Path | None, typer.Option("--rttm", metavar="OUT", help="Write who speaks when, as RTTM.")]
TurnsIn = Annotated[
    Path | None,
    typer.Option(
        "--turns",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="RTTM file of who speaks when, instead of finding it; speakers called customer or agent are just those.",
    ),
]
DiarizerName = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|NAME",
        help="Find who speaks when by this pipeline of pyannote.audio (extra pyannote): its folder, config file or "
        "name on the hub. A pipeline can run any code: trust it like a program.",
    ),
]


@dataclass(frozen=True, slots=True)
class MonoCall:
    """One recording with all voices on one channel."""

    recording: Recording
    config: MonoConfig
    turns: tuple[Turn, ...] | None
    """Who speaks when, where it was given."""


def mono_call(
    recording: Recording,
    name: str,
    *,
    speakers: str | None,
    turns: Path | None,
    channels: str | None,
    consent: str,
    agent_basis: str | None,
    pictures_agreed: bool,
    language: str | None,
    diarizer: str | None = None,
) -> MonoCall | None:
    """The recording as a call of several voices; None when its channel is one party's.

    So it is with --channels, with video, without everybody's consent, and with more channels than one; asking for
    voices to be told apart then is an InvalidInputError.
    """
    wanted = any(option is not None for option in (speakers, turns, diarizer))
    single = recording.has_sound and recording.channels == 1 and channels is None
    if not wanted and (not single or recording.has_video or consent != "granted"):
        return None
    if not single:
        found = "--channels" if channels else f"{recording.channels} channels" if recording.has_sound else "no sound"
        raise InvalidInputError(
            f"expected one channel that carries all voices with --speakers, --turns or --diarizer, found {found}"
        )
    roles, count = _read_speakers(speakers)
    config = MonoConfig(
        name=name,
        rate_hz=recording.rate_hz,
        consent="granted" if consent == "granted" else "pending",
        language=language,
        roles=roles,
        count=count,
        biometric_basis=agent_basis,
        pictures_agreed=pictures_agreed,
    )
    return MonoCall(recording, config, _read_turns(turns) if turns else None)


def write_turns(path: Path, voices: Voices, name: str) -> None:
    write_whole(path, write_rttm(voices.turns, name).encode())


def tell(voices: Voices, console: Console) -> None:
    """One line on who was found, and how to put it right."""
    if len(voices.participants) == 1:
        role = voices.participants[0].role
        console.print(f"One channel, one voice: everything heard is taken as the {role}'s.", style="dim")
        return
    parties = ", ".join(
        f"{party.id} ({voices.beliefs[party.id].confidence:.0%})"
        if party.role != "unknown"
        else f"{party.id} (role not known)"
        for party in voices.participants
    )
    order = ",".join("customer" if party.role == "agent" else "agent" for party in voices.participants)
    console.print(
        f"One channel, {len(voices.participants)} voices told apart: {parties}. "
        f"Wrong way round? --speakers {order}. Wrong turns? --rttm, correct, --turns.",
        style="dim",
    )


def _read_speakers(text: str | None) -> tuple[tuple[Role, ...], int | None]:
    if text is None:
        return (), None
    if text.isdecimal() and len(text) < 3:
        return (), int(text)
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in ROLES]:
        raise InvalidInputError(f"expected --speakers as a number or of {', '.join(ROLES)}; found {unknown[0]!r}")
    return tuple(ROLES[name] for name in names), None


def _read_turns(path: Path) -> tuple[Turn, ...]:
    try:
        return read_rttm(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path.name}: expected text in UTF-8, found other bytes") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
