"""The sound of stored calls: only what may be heard is kept, under the call's id."""

import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affectline.pipelines.media import Recording, open_recording
from affectline.pipelines.timeline import CallTimeline, Consent
from affectline.protos.v1.recordings_pb2 import JOB_STATE_SUCCEEDED
from affectline.server.config import ServerConfig
from affectline.server.files import ABANDONED_S
from affectline.server.kept_sound import forget_sounds, keep_sound, kept_sound
from affectline.server.main import Server

from .sample_timeline import LENGTH_S, sample_timeline
from .test_grpc import Launch, create, launch, watch, wav  # noqa: F401 - fixtures

pytestmark = pytest.mark.integration


TONES_HZ = (300, 1100)


def recording(folder: Path, channels: int = 2) -> Recording:
    """A tone of its own on each channel."""
    time_s = np.arange(LENGTH_S * 8000) / 8000
    sound = [0.3 * np.sin(2 * np.pi * tone * time_s) for tone in TONES_HZ[:channels]]
    soundfile.write(folder / "call.wav", np.stack(sound, 1), 8000)
    return open_recording(folder / "call.wav")


def agreed(customer: Consent, agent: Consent, channels: int = 2) -> CallTimeline:
    timeline = sample_timeline()
    states: dict[str, Consent] = {"customer": customer, "agent": agent}
    return replace(
        timeline,
        participants=tuple(
            replace(each, consent=states[each.role], channel=each.channel % channels) for each in timeline.participants
        ),
    )


def heard_tones(path: Path) -> list[bool]:
    """Whether each tone is in the file."""
    sound, rate_hz = soundfile.read(path, always_2d=True)
    second = np.abs(np.fft.rfft(sound[5 * rate_hz : 6 * rate_hz].sum(axis=1)))
    return [bool(second[tone] > second.max() / 100) for tone in TONES_HZ]


def test_who_did_not_agree_is_not_in_the_file(tmp_path: Path) -> None:
    assert keep_sound(tmp_path, "a", recording(tmp_path), agreed("granted", "denied"))
    path = kept_sound(tmp_path, "a")
    assert path == tmp_path / "a.kept.ogg"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert heard_tones(path) == [True, False]
    assert keep_sound(tmp_path, "b", recording(tmp_path), agreed("granted", "granted"))
    assert heard_tones(tmp_path / "b.kept.ogg") == [True, True]


@pytest.mark.parametrize("state", ["denied", "pending"])
def test_nothing_is_kept_of_a_channel_that_somebody_did_not_agree_to_share(tmp_path: Path, state: Consent) -> None:
    assert not keep_sound(tmp_path, "a", recording(tmp_path, 1), agreed("granted", state, 1))
    assert not keep_sound(tmp_path, "b", recording(tmp_path), agreed(state, state))
    assert keep_sound(tmp_path, "c", recording(tmp_path, 1), agreed("granted", "granted", 1))
    assert [path.name for path in tmp_path.glob("*.ogg")] == ["c.kept.ogg"]


@pytest.mark.parametrize("call_id", ["../a", "a/b", ".hidden", "", "\0", "語" * 200])
def test_an_id_that_can_be_no_file_name_is_left_alone(tmp_path: Path, call_id: str) -> None:
    assert not keep_sound(tmp_path, call_id, recording(tmp_path), agreed("granted", "granted"))
    assert kept_sound(tmp_path, call_id) is None
    forget_sounds(tmp_path, [call_id])


async def test_an_uploaded_recording_is_kept_when_its_call_is(launch: Launch, tmp_path: Path, wav: Path) -> None:  # noqa: F811 - a fixture
    media = tmp_path / "media"
    media.mkdir()
    running = await launch(store=str(tmp_path / "calls.db"), web_media=media, keep_recordings=True)
    job = await create(running, wav)
    assert (await watch(running, job.id))[-1].state == JOB_STATE_SUCCEEDED
    assert [path.name for path in media.iterdir()] == [f"{job.call_id}.kept.ogg"]
    assert soundfile.info(media / f"{job.call_id}.kept.ogg").channels == 2


async def test_by_itself_no_sound_is_kept(launch: Launch, tmp_path: Path, wav: Path) -> None:  # noqa: F811 - a fixture
    media = tmp_path / "media"
    media.mkdir()
    running = await launch(store=str(tmp_path / "calls.db"), web_media=media)
    job = await create(running, wav)
    await watch(running, job.id)
    assert list(media.iterdir()) == []


async def test_a_folder_that_cannot_be_written_costs_no_job(launch: Launch, tmp_path: Path, wav: Path) -> None:  # noqa: F811 - a fixture
    media = tmp_path / "media"
    media.mkdir()
    running = await launch(store=str(tmp_path / "calls.db"), web_media=media, keep_recordings=True)
    media.rmdir()
    job = await create(running, wav)
    assert (await watch(running, job.id))[-1].state == JOB_STATE_SUCCEEDED


def test_kept_recordings_need_a_place_and_a_store(tmp_path: Path) -> None:
    for settings in ({"web_media": tmp_path}, {"store": "calls.db"}):
        with pytest.raises(ValueError, match="expected store and web_media with keep_recordings, found not both"):
            ServerConfig.model_validate({"keep_recordings": True, **settings})


KILLED = """
import os, signal, sys
from pathlib import Path
from affectline.server.files import write_whole
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), b"what somebody said")
"""


async def test_what_a_killed_server_had_begun_to_keep_goes_when_the_next_one_starts(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for name in ("old", "new"):
        subprocess.run([sys.executable, "-c", KILLED, str(media / f"{name}.kept.ogg")])
    old, new = sorted(media.iterdir(), key=lambda path: ".old" not in path.name)
    os.utime(old, (0, time.time() - ABANDONED_S - 1))
    (media / ".theirs").write_bytes(b"")
    os.utime(media / ".theirs", (0, 0))
    server = Server(ServerConfig(listen="127.0.0.1:0", store=str(tmp_path / "calls.db"), web_media=media))
    await server.start()
    await server.stop()
    assert sorted(media.iterdir()) == sorted((new, media / ".theirs"))
