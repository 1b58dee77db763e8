"""What is told of calls: where they came from, what became of them, what people made of suggestions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from affectline.models.errors import InvalidInputError
from affectline.pipelines.timeline import Verdict

OutcomeKind = Literal["csat", "nps", "resolved", "churned", "escalated"]

SCALES: Final[dict[OutcomeKind, tuple[int, int]]] = {"csat": (1, 5), "nps": (0, 10)}
"""Kind -> lowest and highest whole number; the other kinds are true or false, 1 or 0."""
OUTCOME_KINDS: Final[tuple[OutcomeKind, ...]] = ("csat", "nps", "resolved", "churned", "escalated")
VERDICTS: Final[tuple[Verdict, ...]] = ("accepted", "dismissed", "corrected")
YEARS: Final = range(1970, 2100)
MAX_CORRECTION_CHARACTERS: Final = 1_000
MAX_NOTE_CHARACTERS: Final = 4_000


@dataclass(frozen=True, slots=True)
class CallDetails:
    """What is known of a call beside its timeline."""

    id: str
    """Unique among the calls that are kept; empty until it has one."""
    started: datetime | None = None
    queue: str | None = None
    product: str | None = None
    agent_group: str | None = None
    customer_reference: str | None = None
    """Never kept itself; see the store."""
    agent_reference: str | None = None
    """The same; it only serves to tell whether figures are those of a single agent."""
    demo: bool = False
    """It was made up for showing what the service does."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call. Raises InvalidInputError for a value that its kind does not have."""

    kind: OutcomeKind
    value: float
    """A whole number on the kind's scale; 1 or 0 for true or false."""
    at: datetime | None = None
    """When it became known; None takes the time at which it is recorded."""

    def __post_init__(self) -> None:
        low, high = SCALES.get(self.kind, (0, 1))
        if not (low <= self.value <= high and self.value == int(self.value)):
            expected = f"a whole number of {low} to {high}" if self.kind in SCALES else "true or false"
            raise InvalidInputError(f"expected {expected} for {self.kind}, found {self.value:g}")
        _check_time(self.at)

    @property
    def bad(self) -> bool:
        """CSAT of 2 or lower, an NPS detractor (6 or lower), not resolved, churned, or escalated."""
        match self.kind:
            case "csat":
                return self.value <= 2
            case "nps":
                return self.value <= 6
            case "resolved":
                return not self.value
            case _:
                return bool(self.value)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person made of a suggestion. Raises InvalidInputError."""

    suggestion_id: str
    verdict: Verdict
    correction: str | None = None
    """What was right instead; with `corrected` only."""
    note: str | None = None
    at: datetime | None = None
    """When; None takes the time at which it is recorded."""

    def __post_init__(self) -> None:
        if self.correction and self.verdict != "corrected":
            raise InvalidInputError(f"expected a correction with `corrected` only, found one with `{self.verdict}`")
        for text, most, what in (
            (self.correction, MAX_CORRECTION_CHARACTERS, "correction"),
            (self.note, MAX_NOTE_CHARACTERS, "note"),
        ):
            if len(text or "") > most:
                raise InvalidInputError(f"expected a {what} of at most {most} characters, found {len(text or '')}")
        _check_time(self.at)


def _check_time(at: datetime | None) -> None:
    if at is not None and at.year not in YEARS:
        raise InvalidInputError(f"expected a time of the years {YEARS[0]} to {YEARS[-1]}, found {at.year}")
