"""A call in the JSON that tools for Amazon Connect Contact Lens and Amazon Transcribe Call Analytics read.

Field names are those of AWS' published output. What we do not say is left out rather than made up: no AWS account, no
sentiment of agents, none where nothing is known. Scores run from -5 to 5 in both worlds.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, Final

from affectline.models.labels import UNKNOWN
from affectline.models.signals import Span
from affectline.pipelines.timeline import CallTimeline, Fact, FactKind, Moment, Role, Utterance

SENTIMENT_AT: Final = 0.2
"""Mean valence from which on an utterance is positive, and from its negative down negative; as policies have it."""
NON_TALK_US: Final = 3_000_000
"""A silence of all parties that lasts so long is told; as Contact Lens has it."""
LOUDNESS_FLOOR_DB: Final = -100.0
"""Loudness scores run from 0 to 100: dB above this one re full scale."""
ROLES: Final[Mapping[Role, str]] = {"customer": "CUSTOMER", "agent": "AGENT", "other": "OTHER"}
FACTS: Final[Mapping[FactKind, str]] = {"issue": "IssuesDetected", "commitment": "ActionItemsDetected"}
Json = dict[str, Any]


def to_contact_lens(timeline: CallTimeline) -> bytes:
    """As of Contact Lens' analysis files, version 1.1.0."""
    known = _Known(timeline)
    document = {
        "Version": "1.1.0",
        "Channel": _channel(timeline),
        "ContentMetadata": _content(),
        "CustomerMetadata": {"ContactId": timeline.name},
        "JobStatus": "COMPLETED",
        **known.language(),
        "Participants": [
            {"ParticipantId": party.id, "ParticipantRole": ROLES[party.role]} for party in timeline.participants
        ],
        "Categories": known.categories(),
        "ConversationCharacteristics": known.characteristics(),
        "CustomModels": [],
        "Transcript": [
            {
                **known.turn(utterance),
                "ParticipantId": utterance.participant,
                **known.loudness(utterance, "LoudnessScore"),
                **known.facts(utterance, "BeginOffsetChar", "EndOffsetChar", with_text=True),
            }
            for utterance in timeline.utterances
        ],
    }
    return _dumped(document)


def to_call_analytics(timeline: CallTimeline) -> bytes:
    """As of post-call analytics jobs."""
    known = _Known(timeline)
    document = {
        "JobStatus": "COMPLETED",
        "JobName": timeline.name,
        "Channel": _channel(timeline),
        **known.language(),
        "ContentMetadata": _content(),
        "Participants": [{"ParticipantRole": ROLES[party.role]} for party in timeline.participants],
        "Categories": known.categories(),
        "ConversationCharacteristics": known.characteristics(),
        "Transcript": [
            {
                **known.turn(utterance),
                "ParticipantRole": known.role(utterance.participant),
                **known.loudness(utterance, "LoudnessScores"),
                **known.facts(utterance, "Begin", "End", with_text=False),
                "Items": [
                    {
                        "Type": "pronunciation",
                        "Content": word.text,
                        "Confidence": f"{word.confidence:.4f}",
                        **_offsets(word.span),
                    }
                    for word in utterance.words
                ],
            }
            for utterance in timeline.utterances
        ],
        "AnalyticsJobDetails": {"Skipped": []},
    }
    return _dumped(document)


class _Known:
    """What both formats tell alike."""

    def __init__(self, timeline: CallTimeline) -> None:
        self._timeline = timeline
        self._roles = {party.id: ROLES[party.role] for party in timeline.participants}
        self._moments: dict[str, list[Moment]] = {party.id: [] for party in timeline.participants}
        for moment in timeline.moments:
            self._moments.setdefault(moment.participant, []).append(moment)
        self._starts = {name: [m.span.start_us for m in moments] for name, moments in self._moments.items()}

    def role(self, participant: str) -> str:
        return self._roles.get(participant, ROLES["other"])

    def language(self) -> Json:
        said: dict[str, int] = {}
        for utterance in self._timeline.utterances:
            said[utterance.language] = said.get(utterance.language, 0) + len(utterance.text)
        return {"LanguageCode": max(said, key=lambda each: said[each])} if said else {}

    def turn(self, utterance: Utterance) -> Json:
        turn: Json = {"Id": utterance.id, "Content": utterance.text, **_offsets(utterance.span)}
        if sentiment := self._sentiment(utterance):
            turn["Sentiment"] = sentiment
        if utterance.redactions and not utterance.written:
            turn["Redaction"] = {"RedactedTimestamps": [_offsets(each.span) for each in utterance.redactions]}
        return turn

    def loudness(self, utterance: Utterance, name: str) -> Json:
        """One score for each second; nothing of what was written."""
        levels = [m.level_dbfs for m in self._during(utterance) if m.level_dbfs is not None]
        if utterance.written or not levels:
            return {}
        return {name: [round(min(100.0, max(0.0, level - LOUDNESS_FLOOR_DB)), 2) for level in levels]}

    def facts(self, utterance: Utterance, begin: str, end: str, *, with_text: bool) -> Json:
        found: Json = {}
        for fact in self._timeline.facts:
            if fact.utterance_id == utterance.id and fact.kind in FACTS:
                first, last = _place(fact, utterance)
                told: Json = {"CharacterOffsets": {begin: first, end: last}}
                if with_text:
                    told["Text"] = utterance.text[first:last]
                found.setdefault(FACTS[fact.kind], []).append(told)
        return found

    def categories(self) -> Json:
        """Policies that suggested something are the categories; where, is where their evidence lies."""
        spans = {moment.id: moment.span for moment in self._timeline.moments}
        spans |= {utterance.id: utterance.span for utterance in self._timeline.utterances}
        matched: dict[str, list[Json]] = {}
        for suggestion in self._timeline.suggestions:
            seen = [spans[each] for each in suggestion.because if each in spans]
            start_us = min((span.start_us for span in seen), default=suggestion.created_us)
            end_us = max((span.end_us for span in seen), default=suggestion.created_us)
            name = suggestion.policy.partition("@")[0]
            matched.setdefault(name, []).append(_offsets(Span(start_us, end_us)))
        details = {name: {"PointsOfInterest": points} for name, points in matched.items()}
        return {"MatchedCategories": list(details), "MatchedDetails": details}

    def characteristics(self) -> Json:
        timeline = self._timeline
        interrupted: dict[str, list[Json]] = {}
        for each in timeline.interruptions:
            interrupted.setdefault(self.role(each.by), []).append(_lasting(each.span))
        silences = [_lasting(span) for span in _silences(timeline)]
        talk: dict[str, int] = {}
        pace: dict[str, Json] = {}
        for figures in timeline.dynamics:
            role = self.role(figures.participant)
            talk[role] = talk.get(role, 0) + figures.talk_us // 1_000
            if figures.words_per_minute is not None:
                pace.setdefault(role, {"AverageWordsPerMinute": round(figures.words_per_minute)})
        return {
            "TotalConversationDurationMillis": timeline.duration_us // 1_000,
            "Sentiment": self._scores(),
            "Interruptions": {
                "InterruptionsByInterrupter": interrupted,
                "TotalCount": len(timeline.interruptions),
                "TotalTimeMillis": sum(each["DurationMillis"] for some in interrupted.values() for each in some),
            },
            "NonTalkTime": {
                "Instances": silences,
                "TotalTimeMillis": sum(each["DurationMillis"] for each in silences),
            },
            "TalkSpeed": {"DetailsByParticipant": pace},
            "TalkTime": {
                "DetailsByParticipant": {role: {"TotalTimeMillis": ms} for role, ms in talk.items()},
                "TotalTimeMillis": sum(talk.values()),
            },
        }

    def _scores(self) -> Json:
        overall: Json = {}
        quarters: dict[str, list[Json]] = {}
        for scores in self._timeline.scores:
            role = self.role(scores.participant)
            if scores.overall.score is not None and role not in overall:
                overall[role] = round(scores.overall.score, 2)
                quarters[role] = [
                    {"Score": round(quarter.score, 2), **_offsets(quarter.span)}
                    for quarter in scores.quarters
                    if quarter.score is not None
                ]
        return {"OverallSentiment": overall, "SentimentByPeriod": {"QUARTER": quarters}}

    def _during(self, utterance: Utterance) -> Iterable[Moment]:
        starts = self._starts.get(utterance.participant, [])
        first = max(0, bisect_right(starts, utterance.span.start_us) - 1)
        near = self._moments.get(utterance.participant, [])[first : bisect_left(starts, utterance.span.end_us)]
        return (moment for moment in near if moment.span.overlap_us(utterance.span))

    def _sentiment(self, utterance: Utterance) -> str | None:
        """None of agents, and where nothing is known."""
        if self.role(utterance.participant) == ROLES["agent"]:
            return None
        known = [
            m.affect.valence
            for m in self._during(utterance)
            if m.affect.label != UNKNOWN and m.affect.valence is not None
        ]
        if not known:
            return None
        mean = sum(known) / len(known)
        return "POSITIVE" if mean >= SENTIMENT_AT else "NEGATIVE" if mean <= -SENTIMENT_AT else "NEUTRAL"


def _silences(timeline: CallTimeline) -> list[Span]:
    """Of a heard call: where nobody speaks for at least NON_TALK_US."""
    if timeline.written:
        return []
    found, silent_us = [], 0
    for turn in sorted(timeline.speech, key=lambda each: each.span):
        if turn.span.start_us - silent_us >= NON_TALK_US:
            found.append(Span(silent_us, turn.span.start_us))
        silent_us = max(silent_us, turn.span.end_us)
    if timeline.duration_us - silent_us >= NON_TALK_US:
        found.append(Span(silent_us, timeline.duration_us))
    return found


def _place(fact: Fact, utterance: Utterance) -> tuple[int, int]:
    """Where the fact stands in the text; all of it where it was told of its translation."""
    first = utterance.text.find(fact.text)
    return (first, first + len(fact.text)) if first >= 0 else (0, len(utterance.text))


def _channel(timeline: CallTimeline) -> str:
    return "CHAT" if timeline.written else "VOICE"


def _content() -> Json:
    return {"Output": "Redacted", "RedactionTypes": ["PII"]}


def _offsets(span: Span) -> Json:
    return {"BeginOffsetMillis": span.start_us // 1_000, "EndOffsetMillis": span.end_us // 1_000}


def _lasting(span: Span) -> Json:
    offsets = _offsets(span)
    return {**offsets, "DurationMillis": offsets["EndOffsetMillis"] - offsets["BeginOffsetMillis"]}


def _dumped(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()
