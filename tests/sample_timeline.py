# ruff: noqa: E501 - a script is read line by line
"""A made-up call of about three minutes that has one of everything a timeline can hold."""

import random
from dataclasses import replace

from affectline.models.labels import AFFECT_OF_LABEL, LABELS, UNKNOWN, Label
from affectline.models.signals import AffectEstimate, AffectScores, Modality, Span, VocalFeatures, Word
from affectline.pipelines.changes import change_points
from affectline.pipelines.scores import score_parties
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallTimeline,
    Contributor,
    Dynamics,
    Fact,
    FactKind,
    Highlight,
    Interruption,
    Moment,
    Notice,
    Participant,
    Snapshot,
    SpeechTurn,
    Stage,
    StageName,
    Suggestion,
    Summary,
    Utterance,
    VocalSummary,
)

SECOND_US = 1_000_000
LENGTH_S = 186
PICTURE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgy"
    "PC4zNDL/wAALCAABAAEBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEG"
    "E1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJ"
    "ipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/ACr/2Q=="
)
"""One grey pixel as JPEG."""
CUSTOMER, AGENT = "customer", "agent"
VOICE, TEXT, STRESS = "voice-affect@1.0.0", "text-valence@1.0.0", "vocal-stress@2"

SCRIPT: tuple[tuple[str, float, float, Label, float, str, tuple[str, ...]], ...] = (
    (AGENT, 1, 5, "neutral", 0.8, "Thank you for calling Northwind Broadband, this is Dana. How can I help?", ()),
    (CUSTOMER, 5.6, 11, "neutral", 0.71, "Hi. My internet has been down since Monday and I work from home.", ()),
    (AGENT, 11.6, 15, "neutral", 0.77, "I'm sorry to hear that. Could I have your account number, please?", ()),
    (CUSTOMER, 15.4, 21, "neutral", 0.66, "Yes, it's seven four two, one nine, [redacted].", ()),
    (AGENT, 22, 27.5, "neutral", 0.74, "Thank you. I see a visit was planned for Tuesday between eight and twelve.", ()),
    (CUSTOMER, 28, 36, "frustrated", 0.72, "Nobody came. I took a morning off and nobody even called me.", ("nobody even called",)),
    (AGENT, 35, 41, "neutral", 0.7, "I understand. The technician noted that there was no answer at the door.", ()),
    (CUSTOMER, 41.2, 52, "angry", 0.86, "That is simply not true! This is the third time I call about this and every time I get another story.", ("third time", "not true")),
    (AGENT, 50, 55, "neutral", 0.6, "Sir, if you would let me look at the notes,", ()),
    (CUSTOMER, 53.5, 60, "angry", 0.91, "No. I want to speak to a supervisor or I will cancel.", ("speak to a supervisor", "cancel")),
    (AGENT, 61, 69, "satisfied", 0.5, "You're right to be upset. I own this from here, and I'll stay on the line until it is solved.", ("own this",)),
    (CUSTOMER, 70, 75, "sad", 0.55, "I've just had enough. My father is ill and I need the line.", ("had enough", "ill")),
    (AGENT, 76, 84, "neutral", 0.66, "I'm sorry, that must be hard. Let's restart the box first. Please hold the WPS button until it blinks amber.", ()),
    (CUSTOMER, 85, 90, "confused", 0.64, "Which button? There are three and none of them says that.", ("which button",)),
    (CUSTOMER, 91, 96, "anxious", 0.51, "If I press the wrong one, do I lose all my settings?", ("wrong one", "lose")),
    (AGENT, 97, 104, "neutral", 0.75, "Nothing gets lost. It's the small one on the back, next to the power cable.", ()),
    (CUSTOMER, 105, 108, "disgusted", 0.47, "Ugh, it is covered in dust back here.", ("ugh",)),
    (CUSTOMER, 110, 114, UNKNOWN, 0.24, "Okay… wait.", ()),
    (CUSTOMER, 122, 127, "surprised", 0.68, "Oh! It's green. It went green just now!", ("oh",)),
    (AGENT, 128, 136, "satisfied", 0.62, "Wonderful. I can see your line from here, and the speed looks right. I've credited the four days.", ("wonderful",)),
    (CUSTOMER, 137, 144, "satisfied", 0.7, "It works, the pages load again. That's a relief.", ("works", "relief")),
    (AGENT, 145, 152, "neutral", 0.7, "A technician will still check the cable outside on Friday. You don't need to be home.", ()),
    (CUSTOMER, 153, 160, "satisfied", 0.74, "Good, Friday is fine. And the credit shows on the next bill?", ("good", "fine")),
    (AGENT, 161, 166, "neutral", 0.7, "Yes, as a separate line. Is there anything else I can do?", ()),
    (CUSTOMER, 167, 175, "grateful", 0.88, "No, that's all. Thank you, Dana, you are the first one who really listened.", ("thank you", "really listened")),
    (AGENT, 176, 181, "satisfied", 0.72, "Thank you for your patience. Have a good day.", ("thank you",)),
)  # fmt: skip
"""(party, from s, to s, label, its probability, text, evidence words)."""

SUGGESTIONS = (
    ("assist", "say:own", "Own the missed visit: name it, then the next step.", 37, 57, "normal", 5,
     "The customer has sounded frustrated for 8 s and says “nobody even called”."),
    ("alert", "alert:escalation", "Join the call: the customer asks for a supervisor.", 58, 90, "high", 9,
     "Angry for 16 s with two cues, “third time” and “speak to a supervisor”."),
    ("routing", "queue:retention", "Move to retention: the customer speaks of cancelling.", 60, 120, "high", 9,
     "Angry (very likely, 0.91) and says “cancel”."),
    ("assist", "say:warm-words", "Use warm words: the customer sounds sad.", 74, 94, "low", 11,
     "Sounds sad for 5 s and says “my father is ill”."),
    ("assist", "say:simplify", "Repeat the last step more simply: the customer is confused.", 89, 109, "normal", 13,
     "Sounds confused for 5 s and asks “which button”."),
)  # fmt: skip

FACTS: tuple[tuple[FactKind, int, str], ...] = (
    ("issue", 1, "My internet has been down since Monday and I work from home."),
    ("commitment", 10, "I own this from here, and I'll stay on the line until it is solved."),
    ("open_question", 14, "If I press the wrong one, do I lose all my settings?"),
    ("commitment", 21, "A technician will still check the cable outside on Friday."),
)
"""(kind, line of the script, text)."""


STAGES: tuple[tuple[StageName, float, float], ...] = (
    ("greeting", 1, 0.97),
    ("problem", 5.6, 0.9),
    ("identification", 11.6, 0.96),
    ("problem", 22, 0.81),
    ("resolution", 61, 0.88),
    ("hold", 110, 0.62),
    ("resolution", 122, 0.9),
    ("closing", 161, 0.98),
)
"""(name, from s, confidence)."""

INTERRUPTIONS = ((AGENT, CUSTOMER, 35, 36, True), (AGENT, CUSTOMER, 50, 52, True), (CUSTOMER, AGENT, 53.5, 55, True))
"""(by, of, from s, to s, successful)."""


def sample_timeline(repeats: int = 1) -> CallTimeline:
    """The same conversation `repeats` times over, 186 s each, with other small variations each time."""
    chance = random.Random(7)
    utterances: list[Utterance] = []
    moments: list[Moment] = []
    suggestions: list[Suggestion] = []
    speech: list[SpeechTurn] = []
    vocal: list[VocalSummary] = []
    for turn in range(repeats):
        offset_us = turn * LENGTH_S * SECOND_US
        lines = []
        for number, (party, start_s, end_s, label, probability, text, evidence) in enumerate(SCRIPT):
            span = Span(offset_us + int(start_s * SECOND_US), offset_us + int(end_s * SECOND_US))
            utterance = Utterance(
                id=f"u{turn * len(SCRIPT) + number}",
                span=span,
                participant=party,
                text=text,
                words=_words(text, span),
                language="en",
                confidence=0.62 if label == UNKNOWN else 0.93,
                final=True,
                revision=0,
            )
            lines.append((utterance, label, probability, evidence))
            speech.append(SpeechTurn(party, span))
            if party == CUSTOMER:
                vocal.append(_vocal(utterance, label, baseline_ready=turn > 0 or start_s > 20))
        utterances += [line[0] for line in lines]
        for second in range(LENGTH_S):
            span = Span(offset_us + second * SECOND_US, offset_us + (second + 1) * SECOND_US)
            for party in (AGENT, CUSTOMER):
                spoken = max(
                    (line for line in lines if line[0].participant == party),
                    key=lambda line: line[0].span.overlap_us(span),
                )
                moments.append(_moment(party, span, *spoken, chance, noisy=110 <= second < 114))
        for number, (kind, action, text, start_s, end_s, priority, cause, reason) in enumerate(SUGGESTIONS):
            evidence_span = lines[cause][0].span
            because = [m.id for m in moments if m.participant == CUSTOMER and m.span.overlap_us(evidence_span)]
            suggestions.append(
                Suggestion(
                    id=f"s{turn * len(SUGGESTIONS) + number}",
                    kind=kind,  # type: ignore[arg-type]
                    action=action,
                    text=text,
                    reason=reason,
                    participant=CUSTOMER,
                    because=(*because, lines[cause][0].id),
                    confidence=0.6 + 0.06 * number,
                    priority=priority,  # type: ignore[arg-type]
                    created_us=offset_us + start_s * SECOND_US,
                    expires_us=offset_us + end_s * SECOND_US,
                    policy="defaults@1.0.0",
                )
            )
    participants = Participant(CUSTOMER, "customer", 0, "granted"), Participant(AGENT, "agent", 1, "granted")
    return CallTimeline(
        name="northwind-broadband-0412.flac",
        duration_us=repeats * LENGTH_S * SECOND_US,
        rate_hz=8000,
        participants=participants,
        utterances=tuple(utterances),
        moments=tuple(moments),
        suggestions=tuple(suggestions),
        speech=tuple(speech),
        vocal=tuple(vocal),
        dynamics=(
            Dynamics(
                CUSTOMER,
                84_000_000 * repeats,
                0.48,
                4_500_000,
                1,
                8_000_000,
                141.0,
                LENGTH_S * SECOND_US * repeats,
                1,
                31_000_000,
                0.17,
                13,
                1_000_000,
                3_400_000,
                128.0,
                8_000_000,
                23_000_000,
            ),
            Dynamics(
                AGENT,
                91_000_000 * repeats,
                0.52,
                4_500_000,
                2,
                8_000_000,
                163.0,
                LENGTH_S * SECOND_US * repeats,
                2,
                31_000_000,
                0.17,
                11,
                600_000,
                1_000_000,
                171.0,
                5_000_000,
                14_000_000,
            ),
        ),
        summary=Summary(
            (
                "About: internet down since Monday, and a technician who did not come.",
                "How it went: neutral for 28 s, then angry up to 1:00, confused at 1:25, grateful at the end.",
                "What turned it: at 1:01 the agent took ownership; at 2:02 the line came back.",
            ),
            tuple(_highlight(moments, at_s) for at_s in (33, 56, 87, 124, 171)),
        ),
        notices=(
            Notice("baseline_not_ready", "Stress is not known for the first 20 s: no baseline yet.", 0, CUSTOMER),
            Notice("noise", "Loud noise from 1:50 to 1:54: the voice was not used there.", 110_000_000, CUSTOMER),
        ),
        models={
            "speech_gate": "silero-speech-gate@6.2.3",
            "recogniser": "whisper-base@1.0.0",
            "voice_affect": VOICE,
            "text_affect": TEXT,
        },
        snapshots=(Snapshot("s-1", suggestions[0].created_us, CUSTOMER, suggestions[0].id, PICTURE),),
        facts=tuple(
            Fact(kind, utterances[number].participant, utterances[number].id, utterances[number].span, text)
            for kind, number, text in FACTS
        ),
        changes=change_points(sorted(moments, key=lambda m: m.span)),
        scores=score_parties(participants, utterances, moments, repeats * LENGTH_S * SECOND_US),
        interruptions=tuple(
            Interruption(by, of, _span(start_s, end_s), _span(start_s, end_s).duration_us, successful)
            for by, of, start_s, end_s, successful in INTERRUPTIONS
        ),
        stages=tuple(
            Stage(f"s-{number}", name, _span(start_s, end_s), confidence, (utterances[number].id,))
            for number, ((name, start_s, confidence), end_s) in enumerate(
                zip(STAGES, [*(start_s for _, start_s, _ in STAGES[1:]), LENGTH_S * repeats], strict=True)
            )
        ),
    )


def empty_timeline() -> CallTimeline:
    """A call of 40 s in which nobody spoke."""
    sample = sample_timeline()
    silent = Affect(UNKNOWN, 0.0, {}, None, None, None)
    return replace(
        sample,
        name="silence.wav",
        duration_us=40 * SECOND_US,
        utterances=(),
        moments=tuple(
            replace(m, affect=silent, contributors=(), absent=_absent(m.participant), stress=None,
                    level_dbfs=-66.0, speech_ratio=0.0)
            for m in sample.moments
            if m.span.end_us <= 40 * SECOND_US
        ),
        suggestions=(),
        speech=(),
        vocal=(),
        dynamics=(),
        facts=(),
        scores=(),
        interruptions=(),
        stages=(),
        summary=Summary(("Nobody spoke in this call.",), ()),
        notices=(Notice("no_speech", "No speech was found in 40 s of audio.", 0),),
    )  # fmt: skip


def no_consent_timeline() -> CallTimeline:
    """A call in which neither party agreed to be analysed: moments with reasons, and nothing else."""
    sample = sample_timeline()
    nothing = Affect(UNKNOWN, 0.0, {}, None, None, None)
    absent = (Absence("voice", "no consent"), Absence("text", "no consent"))
    return replace(
        sample,
        participants=tuple(replace(party, consent="denied") for party in sample.participants),
        utterances=(),
        moments=tuple(
            replace(
                m,
                affect=nothing,
                contributors=(),
                absent=absent,
                stress=None,
                level_dbfs=None,
                speech_ratio=0.0,
            )
            for m in sample.moments
        ),
        suggestions=(),
        speech=(),
        vocal=(),
        dynamics=(),
        facts=(),
        scores=(),
        interruptions=(),
        stages=(),
        summary=Summary((), ()),
        notices=tuple(
            Notice(
                "no_consent",
                f"The {party.role} did not consent: nothing of this party was analysed.",
                0,
                party.id,
            )
            for party in sample.participants
        ),
    )


def _span(start_s: float, end_s: float) -> Span:
    return Span(round(start_s * SECOND_US), round(end_s * SECOND_US))


def _words(text: str, span: Span) -> tuple[Word, ...]:
    parts = text.split()
    step_us = span.duration_us // len(parts)
    return tuple(
        Word(part, Span(span.start_us + i * step_us, span.start_us + (i + 1) * step_us), 0.9)
        for i, part in enumerate(parts)
    )


def _absent(party: str, reason: str = "no speech") -> tuple[Absence, ...]:
    voice = "agent voice is not analysed" if party == AGENT else reason
    return Absence("voice", voice), Absence("text", "no speech"), Absence("face", "no video")


def _moment(
    party: str,
    span: Span,
    utterance: Utterance,
    label: Label,
    probability: float,
    evidence: tuple[str, ...],
    chance: random.Random,
    *,
    noisy: bool,
) -> Moment:
    spoken = utterance.span.overlap_us(span) / span.duration_us
    second = span.start_us // SECOND_US
    if spoken < 0.2:
        affect = Affect(UNKNOWN, 0.0, {}, None, None, None)
        level_dbfs = -62 + chance.random() * 6
        return Moment(f"{party}-{second}", span, party, affect, (), _absent(party), None, level_dbfs, spoken, 0, True)
    probability = min(0.97, max(0.2, probability + chance.uniform(-0.08, 0.08)))
    ranked: Label = "neutral" if label == UNKNOWN else label
    others = [chance.random() ** 3 if name != ranked else 0.0 for name in LABELS]
    labels = {
        name: probability if name == ranked else (1 - probability) * other / sum(others)
        for name, other in zip(LABELS, others, strict=True)
    }
    valence, arousal, dominance = (
        max(-1.0, min(1.0, value * probability + chance.uniform(-0.1, 0.1))) for value in AFFECT_OF_LABEL[ranked]
    )

    def contributor(
        modality: Modality, weight: float, model: str, quality: float, heard: tuple[str, ...]
    ) -> Contributor:
        scores = AffectScores(labels, valence, arousal, dominance, probability * quality, heard)
        return Contributor(modality, weight, AffectEstimate(span, party, modality, scores, quality, model))

    if party == AGENT or noisy:
        contributors: tuple[Contributor, ...] = (contributor("text", 1.0, TEXT, 0.9, evidence),)
        absent = (
            Absence("voice", "noise" if noisy else "agent voice is not analysed"),
            Absence("face", "no video"),
        )
    else:
        raised = ("louder than usual", "higher than usual") if AFFECT_OF_LABEL[ranked][1] > 0.5 else ()
        contributors = (
            contributor("voice", 0.52, VOICE, 0.84, ()),
            contributor("text", 0.38, TEXT, 0.9, evidence),
            contributor("stress", 0.1, STRESS, 0.84, raised),
        )
        absent = (Absence("face", "no video"),)
    stress = None if party == AGENT or noisy or second < 20 else max(0.0, min(1.0, 0.35 + 0.6 * arousal))
    return Moment(
        id=f"{party}-{second}",
        span=span,
        participant=party,
        affect=Affect(label, probability, labels, valence, arousal, dominance),
        contributors=contributors,
        absent=absent,
        stress=stress,
        level_dbfs=-30 + 12 * arousal + chance.uniform(-4, 4),
        speech_ratio=spoken,
        revision=0,
        final=True,
    )


def _vocal(utterance: Utterance, label: Label, *, baseline_ready: bool) -> VocalSummary:
    arousal = AFFECT_OF_LABEL.get(label, (0.0, 0.0, 0.0))[1]
    deviations = {
        "intensity_db": 3 * arousal,
        "f0_median_hz": 2.6 * arousal,
        "rate_syllables_s": 1.1 * arousal,
    }
    features = VocalFeatures(f0_median_hz=180 + 60 * arousal, intensity_db=-24 + 8 * arousal, jitter=0.012)
    return VocalSummary(
        utterance.id,
        utterance.participant,
        utterance.span,
        features,
        deviations if baseline_ready else {},
        baseline_ready,
    )


def _highlight(moments: list[Moment], at_s: int) -> Highlight:
    moment = next(m for m in moments if m.id == f"{CUSTOMER}-{at_s}")
    line = next(line for line in SCRIPT if line[0] == CUSTOMER and line[1] <= at_s < line[2])
    words = ", ".join(f"“{word}”" for word in line[6])
    return Highlight(
        moment.id,
        moment.span.start_us,
        CUSTOMER,
        moment.affect.label,
        moment.affect.probability,
        line[5],
        f"Sounds {line[3]} and says {words}.",
    )


def written_timeline() -> CallTimeline:
    """An e-mail thread over three days, of which only the words are known; its times are those of the turns."""
    sample = sample_timeline()
    day_us = 24 * 3600 * SECOND_US
    begins_us = (0, 8 * 3600 * SECOND_US, day_us, day_us + 8 * SECOND_US, 3 * day_us)
    mine, theirs = ([u for u in sample.utterances if u.participant == party] for party in (CUSTOMER, AGENT))
    source = (mine[0], theirs[0], mine[1], theirs[1], mine[2])
    utterances, moments = [], []
    for number, (begin_us, said) in enumerate(zip(begins_us, source, strict=True)):
        own = (m for m in sample.moments if m.participant == said.participant and m.span.overlap_us(said.span))
        model = next(m for m in own if m.affect.labels)
        span = Span(begin_us, begin_us + 6 * SECOND_US)
        utterances.append(replace(said, id=f"t-{number}", span=span, words=(), cues=(), written=True))
        moments += [
            replace(
                model,
                id=f"m-{number}-{second}",
                span=Span(begin_us + second * SECOND_US, begin_us + (second + 1) * SECOND_US),
                contributors=tuple(c for c in model.contributors if c.modality == "text"),
                absent=tuple(Absence(modality, "written") for modality in ("voice", "stress", "face")),
                stress=None,
                level_dbfs=None,
                speech_ratio=0.0,
            )
            for second in range(6)
        ]
    first, last, end_us = moments[0], moments[-1], 3 * day_us + 6 * SECOND_US
    highlight = replace(sample.summary.highlights[0], moment_id=last.id, at_us=last.span.start_us)
    return replace(
        sample,
        name="thread.jsonl",
        duration_us=end_us,
        rate_hz=0,
        utterances=tuple(utterances),
        moments=tuple(moments),
        suggestions=tuple(
            replace(sample.suggestions[0], id=f"s{at_us}", created_us=at_us, expires_us=at_us + 1, because=(first.id,))
            for at_us in (6 * SECOND_US, 3 * day_us + 6 * SECOND_US)
        ),
        speech=(),
        vocal=(),
        dynamics=(),
        interruptions=(),
        stages=(
            Stage("s-0", "greeting", Span(0, begins_us[2]), 0.7, ("t-0",)),
            Stage("s-1", "problem", Span(begins_us[2], begins_us[4]), 0.8, ("t-2",)),
            Stage("s-2", "closing", Span(begins_us[4], 3 * day_us + 6 * SECOND_US), 0.9, ("t-4",)),
        ),
        summary=replace(sample.summary, highlights=(highlight,)),
        notices=(),
        changes=change_points(moments),
        scores=score_parties(sample.participants, utterances, moments, end_us, written=True),
    )
