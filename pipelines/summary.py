"""The call in three lines, and the moments worth looking at first."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, groupby

from affectline.models.labels import UNKNOWN
from affectline.pipelines.facts import find_issues
from affectline.pipelines.timeline import Fact, Highlight, Moment, Participant, Summary, Utterance

MAX_HIGHLIGHTS = 5
MIN_APART_US = 8_000_000
QUOTE_CHARACTERS = 90
TREND_US = 20_000_000
"""Stretches this long are compared to find what turned a call."""
MIN_SECONDS = 5
"""Known seconds on each side of a turn."""
_REASON = re.compile(
    r"\b(calling|call|because|want|wanted|need|problem|issue|trouble|help|why|order|bill|cancel)\b", re.I
)
"""Words with which people say why they call (English)."""
AGREES = 0.2
"""A modality's own belief in a label from which it is named as a reason."""
MIN_TURN = 0.15
"""A smaller change of mean valence is no turn."""


def summarise(
    participants: Sequence[Participant], utterances: Sequence[Utterance], moments: Sequence[Moment]
) -> Summary:
    """moments: final ones, in time order."""
    if not participants:
        return Summary((), ())
    party = next((p for p in participants if p.role == "customer"), participants[0])
    subject = party.id
    if party.consent != "granted" and not any(m.contributors for m in moments if m.participant == subject):
        line = f"Nothing of the {party.role} was analysed: consent {party.consent}."
        return Summary((line,), _highlights(subject, moments, utterances))
    own = [m for m in moments if m.participant == subject and m.affect.label != UNKNOWN]
    spoken = [u for u in utterances if u.participant == subject]
    issues = find_issues(spoken) if party.role == "customer" else []
    lines = (_topic(party.role, spoken, issues), _course(party.role, own, spoken), _turn(own, utterances))
    return Summary(tuple(line for line in lines if line), _highlights(subject, moments, utterances))


def clock(at_us: int) -> str:
    """m:ss, as people read a call's time; h:mm:ss from an hour on, `2d hh:mm` from a day on."""
    minutes, seconds = divmod(at_us // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _topic(who: str, spoken: Sequence[Utterance], issues: Sequence[Fact]) -> str:
    """The clearest issue; without one, the longest utterance of the first two thirds, if it can say why they call."""
    if not spoken:
        return f"No words of the {who} were recognised."
    if issues:
        return f"The {who} at {clock(issues[0].span.start_us)}: “{_shortened(issues[0].text, 140)}”"
    early = [u for u in spoken if u.span.start_us <= spoken[-1].span.end_us * 2 // 3] or spoken[:1]
    longest = max(early, key=lambda u: (bool(_REASON.search(u.text)) and u.text[-1:] in ".?!", len(u.text)))
    return f"The {who} at {clock(longest.span.start_us)}: “{_shortened(longest.text, 140)}”"


def _course(who: str, known: Sequence[Moment], said: Sequence[Utterance]) -> str:
    """What it felt like, and for how long; of what was only written, in how many turns."""
    written = _all_written(said)
    if written:
        starts = {u.span.start_us for u in said}
        known = [m for m in known if m.span.start_us in starts]
    if not known:
        return f"How the {who} felt is unknown: too little fit evidence."
    counts = Counter(m.affect.label for m in known).most_common(3)
    often = [(label, n) for label, n in counts if n / len(known) >= 0.05]
    if written:
        parts = ", ".join(f"{label} in {n}" for label, n in often)
        return f"The {who} reads {parts} of {_counted(len(known), 'turn')} that could be judged."
    parts = ", ".join(f"{label} for {n} s" for label, n in often)
    return f"The {who} sounds {parts} of {len(known)} s that could be judged."


def _all_written(utterances: Sequence[Utterance]) -> bool:
    return bool(utterances) and all(u.written for u in utterances)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _turn(known: Sequence[Moment], utterances: Sequence[Utterance]) -> str:
    """Where mean valence before and after differs most; nothing to say of too short a stretch.

    Of what was only written, idle time between turns does not count.
    """
    if len(known) < 2 * MIN_SECONDS:
        return ""
    starts_us = [m.span.start_us for m in known]
    if _all_written(utterances):
        starts_us = list(accumulate((m.span.duration_us for m in known[:-1]), initial=0))
    valences = [m.affect.valence or 0 for m in known]
    best, change = None, MIN_TURN
    for index, (moment, at_us) in enumerate(zip(known, starts_us, strict=True)):
        before = valences[bisect_left(starts_us, at_us - TREND_US) : index]
        after = valences[index : bisect_left(starts_us, at_us + TREND_US)]
        if min(len(before), len(after)) >= MIN_SECONDS:
            difference = sum(after) / len(after) - sum(before) / len(before)
            if abs(difference) > abs(change):
                best, change = moment, difference
    if best is None:
        return "No clear turn: valence stays about level."
    said = _said(best, utterances)
    quote = f" around “{_shortened(said.text, 70)}”" if said else ""
    return f"Turns {'up' if change > 0 else 'down'} at {clock(best.span.start_us)}{quote}."


def _highlights(subject: str, moments: Sequence[Moment], utterances: Sequence[Utterance]) -> tuple[Highlight, ...]:
    """The strongest moment of each stretch of one label, the subject's first, well apart; given in time order."""
    ranked = []
    for _, run in groupby(sorted(moments, key=lambda m: m.participant), key=lambda m: (m.participant, m.affect.label)):
        peak = max(run, key=lambda m: m.affect.probability)
        if peak.affect.label not in (UNKNOWN, "neutral"):
            ranked.append(peak)
    ranked.sort(key=lambda m: (m.participant != subject, -m.affect.probability))
    chosen: list[Moment] = []
    for moment in ranked:
        if all(abs(moment.span.start_us - other.span.start_us) >= MIN_APART_US for other in chosen):
            chosen.append(moment)
    return tuple(_highlight(m, utterances) for m in sorted(chosen[:MAX_HIGHLIGHTS], key=lambda m: m.span.start_us))


def _highlight(moment: Moment, utterances: Sequence[Utterance]) -> Highlight:
    said = _said(moment, utterances)
    return Highlight(
        moment_id=moment.id,
        at_us=moment.span.start_us,
        participant=moment.participant,
        label=moment.affect.label,
        probability=moment.affect.probability,
        quote=_shortened(said.text, QUOTE_CHARACTERS) if said else "",
        reason=explain(moment, written=said is not None and said.written),
    )


def explain(moment: Moment, *, written: bool) -> str:
    """Why the moment has its label, in one plain sentence."""
    label = moment.affect.label
    if label == UNKNOWN:
        reasons = "; ".join(dict.fromkeys(a.reason for a in moment.absent)) or "the evidence is too thin"
        return f"Unknown: {reasons}."
    causes = []
    for share in sorted(moment.contributors, key=lambda c: -c.weight):
        scores = share.estimate.scores
        agrees = scores.labels is not None and scores.labels.get(label, 0) >= AGREES
        if share.modality == "voice" and agrees:
            causes.append(f"the voice fits {label}")
        elif share.modality == "text" and agrees and scores.evidence:
            causes.append(f"{'writes' if written else 'says'} " + ", ".join(f"“{cue}”" for cue in scores.evidence[:2]))
        elif share.modality == "text" and agrees:
            causes.append("the words fit")
        elif share.modality == "face" and agrees:
            causes.append(f"the face fits {label}")
        elif share.modality in ("stress", "dynamics") and share.estimate.scores.evidence:
            causes.append(", ".join(share.estimate.scores.evidence[:2]))
    feels = "Reads" if written else "Seems" if any(c.modality == "face" for c in moment.contributors) else "Sounds"
    return f"{feels} {label}: {' and '.join(causes) or 'several weak signs together'}."


def _said(moment: Moment, utterances: Sequence[Utterance]) -> Utterance | None:
    own = [u for u in utterances if u.participant == moment.participant and u.span.overlap_us(moment.span)]
    return max(own, key=lambda u: u.span.overlap_us(moment.span), default=None)


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rsplit(" ", 1)[0] + "…"
