"""Time as it is drawn: evenly, but idle time in a written conversation as a short break."""

from bisect import bisect_right

from affectline.pipelines.timeline import CallTimeline

BREAK_US = 3_000_000
"""Longer idle times are drawn as long as this. The page's script has the same figure."""


class Axis:
    """Between the time of a call and its place on the drawn line, both in microseconds."""

    def __init__(self, timeline: CallTimeline) -> None:
        spans = sorted(m.span for m in timeline.moments) if timeline.written else []
        self._starts_us = [0]
        """Where each stretch without a break begins …"""
        self._drawn_us = [0]
        """… and where it is drawn."""
        self._ends_us: list[int] = []
        """Where each one but the last ends."""
        reached_us = 0
        for span in spans:
            if span.start_us - reached_us > BREAK_US:
                self._ends_us.append(reached_us)
                self._drawn_us.append(self._drawn_us[-1] + reached_us - self._starts_us[-1] + BREAK_US)
                self._starts_us.append(span.start_us)
            reached_us = max(reached_us, span.end_us)
        self.length_us = self.drawn_us(timeline.duration_us)

    def drawn_us(self, time_us: int) -> int:
        """The place of a time; one inside of a break lies at its begin or end."""
        index = bisect_right(self._starts_us, time_us) - 1
        place_us = self._drawn_us[index] + time_us - self._starts_us[index]
        return place_us if index == len(self._ends_us) else min(place_us, self._drawn_us[index + 1] - BREAK_US)

    def time_us(self, place_us: float) -> int:
        """The time at a place; of a place inside of a break, the end of the break."""
        index = bisect_right(self._drawn_us, place_us) - 1
        time_us = self._starts_us[index] + int(place_us - self._drawn_us[index])
        if index < len(self._ends_us) and time_us > self._ends_us[index]:
            return self._starts_us[index + 1]
        return time_us

    @property
    def breaks_us(self) -> list[int]:
        """The places where breaks begin; each is BREAK_US long."""
        return [place_us - BREAK_US for place_us in self._drawn_us[1:]]
