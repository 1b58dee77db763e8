"""The diarization error rate of the benchmark is that of pyannote.metrics."""

from typing import Any

import numpy as np
import pytest

from affectline.models.signals import Span
from affectline.pipelines.speakers import Turn
from benchmarks.der import diarization_errors

core = pytest.importorskip("pyannote.core", reason="needs the extra `reference` (pyannote.metrics)")
diarization = pytest.importorskip(
    "pyannote.metrics.diarization", reason="needs the extra `reference` (pyannote.metrics)"
)

pytestmark = pytest.mark.reference

S_US = 1_000_000


@pytest.mark.parametrize("collar_s", [0.0, 0.25])
def test_errors_are_those_of_pyannote_metrics(collar_s: float) -> None:
    def annotation(rows: list[Turn]) -> Any:
        found = core.Annotation()
        for number, row in enumerate(rows):
            found[core.Segment(row.span.start_us / S_US, row.span.end_us / S_US), number] = row.speaker
        return found

    def drawn(rng: np.random.Generator, names: str) -> list[Turn]:
        """Of each speaker, turns that do not touch."""
        found = []
        for who in names:
            edges = np.sort(rng.choice(5_800, 12, replace=False)) / 100
            found += [Turn(Span(round(a * S_US), round(b * S_US)), who) for a, b in edges.reshape(-1, 2).tolist()]
        return found

    for seed in range(20):
        rng = np.random.default_rng(seed)
        reference, found = drawn(rng, "abc"), drawn(rng, "xyzw")
        # Their collar is the whole stretch around a boundary, ours reaches so far on either side.
        metric = diarization.DiarizationErrorRate(collar=2 * collar_s)
        uem = core.Timeline([core.Segment(0, 60)])
        expected = metric(annotation(reference), annotation(found), uem=uem)
        ours = diarization_errors(reference, found, 60 * S_US, collar_us=round(collar_s * S_US))
        assert ours.rate == pytest.approx(expected, abs=1e-3)
