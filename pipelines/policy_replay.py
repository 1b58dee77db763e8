"""What a pack would have suggested over calls of the past, beside what was suggested then."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from affectline.pipelines.policy import PolicyPack, feedback_by_policy, replay
from affectline.pipelines.timeline import CallTimeline, Suggestion, Verdict


@dataclass(frozen=True, slots=True)
class PolicyCount:
    """One policy over all calls."""

    policy: str
    fired: int
    """Suggestions it would have made."""
    calls: int
    """Calls in which it would have made at least one."""
    per_call: float
    per_hour: float
    suggested: int
    """Suggestions of that name that were made then."""
    accepted: int
    dismissed: int
    corrected: int
    """What agents said of those."""


@dataclass(slots=True)
class ReplayTally:
    """Counts call by call; holds no call."""

    pack: PolicyPack
    calls: int = 0
    duration_us: int = 0
    _fired: Counter[str] = field(default_factory=Counter)
    _calls: Counter[str] = field(default_factory=Counter)
    _suggested: Counter[str] = field(default_factory=Counter)
    _verdicts: defaultdict[str, Counter[Verdict]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, timeline: CallTimeline) -> list[Suggestion]:
        """Takes in one call; gives what the pack suggests for it."""
        suggestions = replay(self.pack, timeline)
        self.calls += 1
        self.duration_us += timeline.duration_us
        names = _names(suggestions)
        self._fired.update(names)
        self._calls.update(set(names))
        self._suggested.update(_names(timeline.suggestions))
        for name, verdicts in feedback_by_policy(timeline.suggestions, timeline.feedback).items():
            self._verdicts[name].update(verdicts)
        return suggestions

    @property
    def hours(self) -> float:
        return self.duration_us / 3.6e9

    def counts(self) -> list[PolicyCount]:
        """In the pack's order, then those that only were suggested then."""
        known = [policy.name for policy in self.pack.policies]
        gone = sorted(set(self._suggested) - set(known))
        return [self._count(name) for name in (*known, *gone)]

    def _count(self, name: str) -> PolicyCount:
        fired, verdicts = self._fired[name], self._verdicts.get(name, Counter())
        return PolicyCount(
            policy=name,
            fired=fired,
            calls=self._calls[name],
            per_call=fired / self.calls if self.calls else 0.0,
            per_hour=fired / self.hours if self.hours else 0.0,
            suggested=self._suggested[name],
            accepted=verdicts["accepted"],
            dismissed=verdicts["dismissed"],
            corrected=verdicts["corrected"],
        )


def _names(suggestions: Sequence[Suggestion]) -> list[str]:
    return [suggestion.policy.partition("@")[0] for suggestion in suggestions]
