"""Where what a party feels turns into something else."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from statistics import fmean
from typing import Final

from affectline.models.labels import UNKNOWN
from affectline.pipelines.timeline import ChangePoint, Moment

MIN_SECONDS: Final = 3
"""Known seconds that a feeling lasts; a shorter one is no change."""


def change_points(moments: Sequence[Moment]) -> tuple[ChangePoint, ...]:
    """By time. moments: final ones, in time order."""
    found = []
    for name in dict.fromkeys(m.participant for m in moments):
        known = [m for m in moments if m.participant == name and m.affect.label != UNKNOWN]
        found += [_change(before, after) for before, after in pairwise(_lasting(known))]
    return tuple(sorted(found, key=lambda change: (change.at_us, change.participant)))


def _lasting(known: Sequence[Moment]) -> Iterator[list[Moment]]:
    """The runs of one label that last; those on both sides of a shorter one of another label are one."""
    runs = [list(run) for _, run in groupby(known, key=lambda m: m.affect.label)]
    lasting = [run for run in runs if len(run) >= MIN_SECONDS]
    for _, same in groupby(lasting, key=lambda run: run[0].affect.label):
        yield [moment for run in same for moment in run]


def _change(before: Sequence[Moment], after: Sequence[Moment]) -> ChangePoint:
    return ChangePoint(
        participant=after[0].participant,
        at_us=after[0].span.start_us,
        before=before[-1].affect.label,
        after=after[0].affect.label,
        confidence=min(
            fmean(m.affect.probability for m in before[-MIN_SECONDS:]),
            fmean(m.affect.probability for m in after[:MIN_SECONDS]),
        ),
    )
