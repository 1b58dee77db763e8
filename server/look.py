"""What the terminal and the pages share of the visual language: colours, clock, words for probabilities."""

from typing import Final

from affectline.models.labels import Label
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import FactKind, PartyScores, Toward, Trajectory

EMOTION_COLOURS: Final[dict[Label, str]] = {
    "angry": "#B2182B",
    "frustrated": "#E66101",
    "anxious": "#8E63B0",
    "sad": "#3B5B92",
    "disgusted": "#6B6B2A",
    "confused": "#C49A00",
    "surprised": "#D170A8",
    "neutral": "#9AA5B1",
    "satisfied": "#2A9D8F",
    "grateful": "#1B7F5C",
}
"""Label -> fill; `unknown` has none, it is hatched."""

LIKELIHOODS: Final = (
    (0.9, "very likely"),
    (0.65, "likely"),
    (0.5, "probably"),
    (0.3, "possibly"),
    (0.0, "unlikely"),
)
"""(lowest probability, word), highest first."""

FACT_TITLES: Final[dict[FactKind, str]] = {
    "issue": "Problem",
    "commitment": "Promised",
    "open_question": "Left unanswered",
}
"""Kind of a fact -> heading, in the order shown."""

TRAJECTORY_WORDS: Final[dict[Trajectory, str]] = {
    "recovered": "recovered",
    "worsened": "worsened",
    "flat": "flat",
    "up_and_down": "up and down",
    "too_little_known": "too little known for a course",
}

DRIVER_WORDS: Final = {
    "text": "words",
    "confusion": "cues of confusion",
    "escalation": "cues of escalation",
    "churn": "cues of leaving",
    "gratitude": "thanks",
    "urgency": "cues of urgency",
    "vulnerability": "cues of vulnerability",
    "emotion": "feelings put in words",
}
"""What goes with the extremes of a call, where its own name is not plain enough."""


def signed(score: float) -> str:
    """A score with its sign and one place, e.g. `+1.4`, `−2.0`, `0.0`."""
    return f"{round(score, 1) + 0.0:+.1f}".replace("-", "−").replace("+0.0", "0.0")


def drivers_of(scores: PartyScores, toward: Toward) -> str:
    """What goes with those extremes, for a person, e.g. `voice 52 %, words 38 %`; empty where nothing does."""
    own = (each for each in scores.drivers if each.toward == toward)
    return ", ".join(f"{DRIVER_WORDS.get(each.name, each.name)} {100 * each.share:.0f} %" for each in own)


def likelihood(probability: float) -> str:
    """A probability in [0, 1] as a word with the number behind it, e.g. `likely, 0.72`."""
    word = next((word for least, word in LIKELIHOODS if probability >= least), LIKELIHOODS[-1][1])
    return f"{word}, {probability:.2f}"


def length(duration_us: int) -> str:
    """How long something took, with its unit, e.g. `9:12 min`, `1:05:07 h`, `2d 03:15`."""
    hours = duration_us // 3_600_000_000
    return clock(duration_us) + ("" if hours >= 24 else " h" if hours else " min")


def seconds(time_us: int) -> str:
    """A short time with its unit, e.g. `0.6 s`, `23 s`, `2:05 min`."""
    if time_us >= 60_000_000:
        return length(time_us)
    return f"{time_us / 1e6:.1f} s" if time_us < 9_950_000 else f"{time_us / 1e6:.0f} s"


def told(error: Exception, more: str = "") -> str:
    """What is wrong, for a terminal: a line for each fault."""
    return "\n".join(clean(f"affectline: {line}{more}") for line in str(error).splitlines())


def clean(text: str) -> str:
    """Without control characters: what was said in a call, or a file's name, must not steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
