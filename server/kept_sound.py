"""Sounds of stored calls as the server keeps them itself: one file for each call in the folder of `web_media`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from affectline.models.errors import StorageError
from affectline.pipelines.media import Recording
from affectline.pipelines.timeline import CallTimeline
from affectline.server.files import write_whole
from affectline.server.sound import heard_channels, to_ogg

SUFFIX: Final = ".kept.ogg"
"""Tells these files from those that people put there, which are never deleted here."""
MAX_NAME_BYTES: Final = 200
OWNER_ONLY: Final = 0o600


def can_name_file(call_id: str) -> bool:
    """Whether files may be named by this id: it leads nowhere else, and is not too long."""
    return len(call_id.encode(errors="replace")) <= MAX_NAME_BYTES and bool(
        re.fullmatch(r"[^/\\\0.][^/\\\0]*", call_id)
    )


def keep_sound(folder: Path, call_id: str, recording: Recording, timeline: CallTimeline) -> bool:
    """Writes what may be heard of a call, and only that; False where it is nothing. Raises StorageError."""
    if not (recording.has_sound and heard_channels(timeline) and can_name_file(call_id)):
        return False
    write_whole(folder / f"{call_id}{SUFFIX}", to_ogg(recording, timeline), mode=OWNER_ONLY)
    return True


def kept_sound(folder: Path, call_id: str) -> Path | None:
    path = folder / f"{call_id}{SUFFIX}"
    return path if can_name_file(call_id) and path.is_file() else None


def forget_sounds(folder: Path, call_ids: Iterable[str]) -> None:
    """Deletes what was kept of these calls. Raises StorageError."""
    for call_id in filter(can_name_file, call_ids):
        try:
            (folder / f"{call_id}{SUFFIX}").unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete the sound of a call in {folder}: {error.strerror}") from error
