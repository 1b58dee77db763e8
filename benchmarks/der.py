"""Diarization error rate (NIST RT-09 rules), on a grid of 10 ms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from affectline.pipelines.speakers import Turn

STEP_US: Final = 10_000
Grid = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Errors:
    """Seconds of speaker time; parts of a set of calls add up."""

    speech_s: float = 0.0
    """Reference, each speaker by themselves."""
    missed_s: float = 0.0
    false_alarm_s: float = 0.0
    confusion_s: float = 0.0

    @property
    def rate(self) -> float:
        return (self.missed_s + self.false_alarm_s + self.confusion_s) / max(self.speech_s, 1e-9)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.speech_s + other.speech_s,
            self.missed_s + other.missed_s,
            self.false_alarm_s + other.false_alarm_s,
            self.confusion_s + other.confusion_s,
        )


def diarization_errors(
    reference: Sequence[Turn], found: Sequence[Turn], duration_us: int, *, collar_us: int = 0
) -> Errors:
    """Overlap counts; speakers are paired so that they agree longest. Nothing within `collar_us` of a reference
    boundary counts."""
    theirs, ours = grid(reference, duration_us), grid(found, duration_us)
    counted = np.ones(theirs.shape[1], bool)
    if collar_us:
        for turn in reference:
            for edge in (turn.span.start_us, turn.span.end_us):
                start, end = (edge - collar_us) // STEP_US, (edge + collar_us) // STEP_US
                counted[max(0, start) : max(0, end)] = False
    theirs, ours = theirs[:, counted], ours[:, counted]
    shared = theirs.astype(np.float32) @ ours.T.astype(np.float32)
    rows, columns = linear_sum_assignment(-shared)
    correct = np.zeros(theirs.shape[1], int)
    for row, column in zip(rows, columns, strict=True):
        correct += theirs[row] & ours[column]
    many, few = theirs.sum(axis=0), ours.sum(axis=0)
    seconds = STEP_US / 1e6
    return Errors(
        float(many.sum() * seconds),
        float(np.maximum(many - few, 0).sum() * seconds),
        float(np.maximum(few - many, 0).sum() * seconds),
        float((np.minimum(many, few) - correct).sum() * seconds),
    )


def grid(turns: Sequence[Turn], duration_us: int) -> Grid:
    """[speakers, steps]: who speaks."""
    names = sorted({turn.speaker for turn in turns})
    found = np.zeros((len(names), -(-duration_us // STEP_US)), bool)
    for turn in turns:
        start, end = (round(edge / STEP_US) for edge in (turn.span.start_us, turn.span.end_us))
        found[names.index(turn.speaker), start:end] = True
    return found
