"""Labelled clips as the voice heads see them: cut by the speech gate, changed as on lines, encoded, pooled."""

import csv
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ, AcousticEncoder, SpeechGate
from affectline.models.signals import F32
from affectline.models.training.augment import CHANGES, Change, as_is, telephone
from affectline.models.zoo.voice import CLASS_OF_LABEL, pool

WINDOW_FRAMES = 100
HOP_FRAMES = 50
BANDS: tuple[tuple[str, Change], ...] = (("wide", as_is), ("telephone", telephone))
TEXT_COLUMNS = ("sentence", "statement", "transcript", "text")
MARGIN_S = 0.1
"""Kept before and after the speech that the gate finds."""

Strings = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Examples:
    """One row per clip and change (whole), and per 2 s window of it (not whole)."""

    x: F32
    """[n, k], as `pool` gives."""
    label: Strings
    """[n], a class of the head."""
    speaker: Strings
    """[n], `corpus/speaker`."""
    corpus: Strings
    clip: Strings
    """[n], `corpus/path`."""
    text: Strings
    """[n], what was said, or empty where labels.csv does not tell."""
    band: Strings
    """[n], wide, telephone, or changed (augmented)."""
    whole: npt.NDArray[np.bool_]

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> "Examples":
        return Examples(*(getattr(self, field.name)[rows] for field in fields(self)))

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def load(path: Path) -> "Examples":
        with np.load(path) as found:
            return Examples(**{field.name: found[field.name] for field in fields(Examples)})


def joined(parts: Sequence[Examples]) -> Examples:
    return Examples(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Examples)))


def read_clips(data: Path) -> list[dict[str, str]]:
    """Rows of DIR/labels.csv (path,label,speaker,…) whose label is known, `label` folded by CLASS_OF_LABEL.

    Raises InvalidInputError without such a file, columns or labels.
    """
    path = data / "labels.csv"
    if not path.is_file():
        raise InvalidInputError(f"expected labels.csv (path,label,speaker,…) in {data}, found none")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if missing := {"path", "label", "speaker"} - set(rows[0] if rows else ()):
        raise InvalidInputError(f"{path}: expected columns path, label, speaker; found no {', '.join(sorted(missing))}")
    known = [
        row | {"label": CLASS_OF_LABEL[label]} for row in rows if (label := row["label"].lower()) in CLASS_OF_LABEL
    ]
    if not known:
        found = ", ".join(sorted({row["label"] for row in rows})[:10])
        raise InvalidInputError(f"{path}: expected labels of {', '.join(sorted(CLASS_OF_LABEL))}; found {found}")
    return known


def read_pcm(path: Path) -> F32:
    """A clip as mono at RATE_HZ."""
    try:
        pcm, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InvalidInputError(f"expected a WAV or FLAC file at {path}, found: {error}") from error
    return np.asarray(soxr.resample(pcm.mean(axis=1), rate_hz, RATE_HZ), np.float32)


def spoken_part(pcm: F32, gate: SpeechGate) -> F32:
    """From the first to the last speech with MARGIN_S around it; all of it where the gate hears none."""
    spoken = np.flatnonzero(gate.open().feed(pcm) >= 0.5)
    if not len(spoken):
        return pcm
    margin = int(MARGIN_S * RATE_HZ)
    return pcm[max(0, spoken[0] * gate.frame_samples - margin) : (spoken[-1] + 1) * gate.frame_samples + margin]


def encode(
    data: Path,
    encoder: AcousticEncoder,
    gate: SpeechGate,
    *,
    limit: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Examples:
    """Every clip of a folder wide, as telephone, and through one of CHANGES; seeded by its path.

    limit: that many clips, drawn with a fixed seed. progress: called with the share done, in [0, 1].
    Raises InvalidInputError.
    """
    clips, corpus = read_clips(data), data.resolve().name
    clips = [clips[i] for i in np.random.default_rng(0).permutation(len(clips))[:limit]] if limit else clips
    rows: list[tuple[F32, str, str, str, str, str, str, bool]] = []
    for number, clip in enumerate(clips):
        rng = np.random.default_rng(zlib.crc32(clip["path"].encode()))
        pcm = spoken_part(read_pcm(data / clip["path"]), gate)[: encoder.window_samples]
        for band, change in (*BANDS, ("changed", CHANGES[rng.integers(len(CHANGES))])):
            encoding = encoder.encode(change(pcm, rng)[: encoder.window_samples])
            frames = encoding.input_frames
            spans = [(0, frames)]
            if frames > WINDOW_FRAMES:
                spans += [(s, s + WINDOW_FRAMES) for s in range(0, frames - WINDOW_FRAMES + 1, HOP_FRAMES)]
            else:
                spans.append((0, frames))
            path, speaker = (f"{corpus}/{clip[column]}" for column in ("path", "speaker"))
            text = next((clip[column] for column in TEXT_COLUMNS if clip.get(column)), "")
            known = (clip["label"], speaker, corpus, path, text, band)
            rows += [(pool(encoding, *span), *known, n == 0) for n, span in enumerate(spans)]
        progress((number + 1) / len(clips))
    x, *rest = zip(*rows, strict=True)
    return Examples(np.stack(x), *(np.array(column) for column in rest))
