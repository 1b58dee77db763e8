"""The timeline, its parts, and what is told while a call runs; in both directions."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Final

from google.protobuf.message import Message

from affectline.models.errors import InvalidInputError
from affectline.models.signals import AffectEstimate, AffectScores, Span, VocalFeatures, Word
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallTimeline,
    ChangePoint,
    Contributor,
    Cue,
    CustomerHistory,
    Driver,
    Dynamics,
    EarlierCall,
    Fact,
    Highlight,
    Interruption,
    Moment,
    Notice,
    Output,
    Participant,
    PartyScores,
    Redaction,
    Score,
    Snapshot,
    SpeechTurn,
    Stage,
    Suggestion,
    SuggestionFeedback,
    Summary,
    Utterance,
    VocalSummary,
)
from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.server.wire.names import (
    CONSENT_NAMES,
    CONSENTS,
    CUE_KIND_NAMES,
    CUE_KINDS,
    DRIVER_KIND_NAMES,
    DRIVER_KINDS,
    EMOTION_NAMES,
    EMOTIONS,
    FACT_KIND_NAMES,
    FACT_KINDS,
    KIND_NAMES,
    KINDS,
    MODALITIES,
    MODALITY_NAMES,
    OUTCOME_NAMES,
    OUTCOMES,
    PERSONAL_KIND_NAMES,
    PERSONAL_KINDS,
    PRIORITIES,
    PRIORITY_NAMES,
    ROLE_NAMES,
    ROLES,
    STAGE_NAMES,
    STAGES,
    TOWARD_NAMES,
    TOWARDS,
    TRAJECTORIES,
    TRAJECTORY_NAMES,
    VERDICT_NAMES,
    VERDICTS,
    optional,
)

TIMELINE_PART_BYTES: Final = 2**20
"""About how large a part of a timeline may become; callers take 4 MiB by default."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a session has come, in media time."""

    received_us: int
    final_us: int


Reply = Output | Cursor


def _span(span: Span) -> timeline_pb2.Span:
    return timeline_pb2.Span(start_us=span.start_us, end_us=span.end_us)


def _span_from(message: timeline_pb2.Span) -> Span:
    return Span(message.start_us, message.end_us)


def participant(participant: Participant) -> timeline_pb2.Participant:
    return timeline_pb2.Participant(
        id=participant.id,
        role=ROLES[participant.role],
        channel=participant.channel,
        consent=CONSENTS[participant.consent],
        biometric_basis=participant.biometric_basis,
        pictures_agreed=participant.pictures_agreed,
    )


def participant_from_wire(message: timeline_pb2.Participant) -> Participant:
    return Participant(
        message.id,
        ROLE_NAMES.get(message.role, "other"),
        message.channel,
        CONSENT_NAMES.get(message.consent, "pending"),
        message.biometric_basis or None,
        message.pictures_agreed,
    )


def _utterance(utterance: Utterance) -> timeline_pb2.Utterance:
    return timeline_pb2.Utterance(
        id=utterance.id,
        span=_span(utterance.span),
        participant=utterance.participant,
        text=utterance.text,
        words=[
            timeline_pb2.Word(text=word.text, span=_span(word.span), confidence=word.confidence)
            for word in utterance.words
        ],
        language=utterance.language,
        confidence=utterance.confidence,
        is_final=utterance.final,
        revision=utterance.revision,
        translation=utterance.translation,
        cues=[_cue(cue) for cue in utterance.cues],
        redactions=[
            timeline_pb2.Redaction(kind=PERSONAL_KINDS[each.kind], span=_span(each.span))
            for each in utterance.redactions
        ],
        written=utterance.written,
    )


def _cue(cue: Cue) -> timeline_pb2.Cue:
    emotion = EMOTIONS[cue.label] if cue.label else timeline_pb2.EMOTION_UNSPECIFIED
    return timeline_pb2.Cue(kind=CUE_KINDS[cue.kind], phrase=cue.phrase, span=_span(cue.span), emotion=emotion)


def _cue_from(message: timeline_pb2.Cue) -> Cue:
    label = EMOTION_NAMES[message.emotion] if message.emotion else None
    return Cue(CUE_KIND_NAMES[message.kind], message.phrase, _span_from(message.span), label)


def _utterance_from(message: timeline_pb2.Utterance) -> Utterance:
    return Utterance(
        id=message.id,
        span=_span_from(message.span),
        participant=message.participant,
        text=message.text,
        words=tuple(Word(word.text, _span_from(word.span), word.confidence) for word in message.words),
        language=message.language,
        confidence=message.confidence,
        final=message.is_final,
        revision=message.revision,
        translation=optional(message, "translation"),
        cues=tuple(_cue_from(cue) for cue in message.cues),
        redactions=tuple(
            Redaction(PERSONAL_KIND_NAMES[each.kind], _span_from(each.span)) for each in message.redactions
        ),
        written=message.written,
    )


def _emotions(labels: Mapping[Any, float] | None) -> list[timeline_pb2.EmotionProbability]:
    return [
        timeline_pb2.EmotionProbability(emotion=EMOTIONS[label], probability=probability)
        for label, probability in (labels or {}).items()
    ]


def _emotions_from(messages: Iterable[timeline_pb2.EmotionProbability]) -> dict[Any, float]:
    return {EMOTION_NAMES[message.emotion]: message.probability for message in messages}


def _estimate(estimate: AffectEstimate) -> timeline_pb2.AffectEstimate:
    scores = estimate.scores
    return timeline_pb2.AffectEstimate(
        span=_span(estimate.span),
        participant=estimate.participant,
        modality=MODALITIES[estimate.modality],
        emotions=_emotions(scores.labels),
        valence=scores.valence,
        arousal=scores.arousal,
        dominance=scores.dominance,
        confidence=scores.confidence,
        quality=estimate.quality,
        evidence=scores.evidence,
        anger_odds=scores.anger_odds,
        model=estimate.model,
    )


def _estimate_from(message: timeline_pb2.AffectEstimate) -> AffectEstimate:
    return AffectEstimate(
        span=_span_from(message.span),
        participant=message.participant,
        modality=MODALITY_NAMES[message.modality],
        scores=AffectScores(
            labels=_emotions_from(message.emotions) or None,
            valence=optional(message, "valence"),
            arousal=optional(message, "arousal"),
            dominance=optional(message, "dominance"),
            confidence=message.confidence,
            evidence=tuple(message.evidence),
            anger_odds=optional(message, "anger_odds"),
        ),
        quality=message.quality,
        model=message.model,
    )


def _affect(affect: Affect) -> timeline_pb2.Affect:
    return timeline_pb2.Affect(
        emotion=EMOTIONS[affect.label],
        probability=affect.probability,
        emotions=_emotions(affect.labels),
        valence=affect.valence,
        arousal=affect.arousal,
        dominance=affect.dominance,
    )


def _affect_from(message: timeline_pb2.Affect) -> Affect:
    return Affect(
        label=EMOTION_NAMES[message.emotion],
        probability=message.probability,
        labels=_emotions_from(message.emotions),
        valence=optional(message, "valence"),
        arousal=optional(message, "arousal"),
        dominance=optional(message, "dominance"),
    )


def _moment(moment: Moment) -> timeline_pb2.Moment:
    return timeline_pb2.Moment(
        id=moment.id,
        span=_span(moment.span),
        participant=moment.participant,
        affect=_affect(moment.affect),
        contributors=[
            timeline_pb2.Contributor(
                modality=MODALITIES[each.modality], weight=each.weight, estimate=_estimate(each.estimate)
            )
            for each in moment.contributors
        ],
        absent=[timeline_pb2.Absence(modality=MODALITIES[each.modality], reason=each.reason) for each in moment.absent],
        stress=moment.stress,
        level_dbfs=moment.level_dbfs,
        speech_ratio=moment.speech_ratio,
        revision=moment.revision,
        is_final=moment.final,
        live=_affect(moment.live) if moment.live else None,
        anger=moment.anger,
    )


def _moment_from(message: timeline_pb2.Moment) -> Moment:
    return Moment(
        id=message.id,
        span=_span_from(message.span),
        participant=message.participant,
        affect=_affect_from(message.affect),
        contributors=tuple(
            Contributor(MODALITY_NAMES[each.modality], each.weight, _estimate_from(each.estimate))
            for each in message.contributors
        ),
        absent=tuple(Absence(MODALITY_NAMES[each.modality], each.reason) for each in message.absent),
        stress=optional(message, "stress"),
        level_dbfs=optional(message, "level_dbfs"),
        speech_ratio=message.speech_ratio,
        revision=message.revision,
        final=message.is_final,
        live=_affect_from(message.live) if message.HasField("live") else None,
        anger=optional(message, "anger"),
    )


def _suggestion(suggestion: Suggestion) -> timeline_pb2.Suggestion:
    return timeline_pb2.Suggestion(
        id=suggestion.id,
        kind=KINDS[suggestion.kind],
        action=suggestion.action,
        text=suggestion.text,
        reason=suggestion.reason,
        participant=suggestion.participant,
        because=suggestion.because,
        confidence=suggestion.confidence,
        priority=PRIORITIES[suggestion.priority],
        created_us=suggestion.created_us,
        expires_us=suggestion.expires_us,
        policy=suggestion.policy,
        revision=suggestion.revision,
    )


def _suggestion_from(message: timeline_pb2.Suggestion) -> Suggestion:
    return Suggestion(
        id=message.id,
        kind=KIND_NAMES[message.kind],
        action=message.action,
        text=message.text,
        reason=message.reason,
        participant=message.participant,
        because=tuple(message.because),
        confidence=message.confidence,
        priority=PRIORITY_NAMES[message.priority],
        created_us=message.created_us,
        expires_us=message.expires_us,
        policy=message.policy,
        revision=message.revision,
    )


def suggestion_feedback(feedback: SuggestionFeedback) -> timeline_pb2.SuggestionFeedback:
    return timeline_pb2.SuggestionFeedback(
        suggestion_id=feedback.suggestion_id,
        verdict=VERDICTS[feedback.verdict],
        correction_emotion=EMOTIONS[feedback.label] if feedback.label else timeline_pb2.EMOTION_UNSPECIFIED,
        correction_text=feedback.text,
        at_us=feedback.at_us,
    )


def suggestion_feedback_from_wire(message: timeline_pb2.SuggestionFeedback) -> SuggestionFeedback:
    return SuggestionFeedback(
        suggestion_id=message.suggestion_id,
        verdict=VERDICT_NAMES[message.verdict],
        at_us=message.at_us,
        label=EMOTION_NAMES[message.correction_emotion] if message.correction_emotion else None,
        text=message.correction_text,
    )


def customer_history(history: CustomerHistory) -> timeline_pb2.CustomerHistory:
    return timeline_pb2.CustomerHistory(
        calls=[
            timeline_pb2.EarlierCall(
                days_ago=call.days_ago,
                mood=EMOTIONS[call.mood] if call.mood else timeline_pb2.EMOTION_UNSPECIFIED,
                outcome=OUTCOMES[call.outcome] if call.outcome else timeline_pb2.CALL_OUTCOME_UNSPECIFIED,
                topic=call.topic,
                open_promise=call.open_promise,
            )
            for call in history.calls
        ]
    )


def customer_history_from_wire(calls: Iterable[timeline_pb2.EarlierCall]) -> CustomerHistory:
    """Values that this server does not know count as not given."""
    return CustomerHistory(
        tuple(
            EarlierCall(
                days_ago=call.days_ago,
                mood=EMOTION_NAMES.get(call.mood),
                outcome=OUTCOME_NAMES.get(call.outcome),
                topic=call.topic,
                open_promise=call.open_promise,
            )
            for call in calls
        )
    )


def _turn(turn: SpeechTurn) -> timeline_pb2.SpeechTurn:
    return timeline_pb2.SpeechTurn(participant=turn.participant, span=_span(turn.span))


def _turn_from(message: timeline_pb2.SpeechTurn) -> SpeechTurn:
    return SpeechTurn(message.participant, _span_from(message.span))


def _vocal(vocal: VocalSummary) -> timeline_pb2.VocalSummary:
    return timeline_pb2.VocalSummary(
        utterance_id=vocal.utterance_id,
        participant=vocal.participant,
        span=_span(vocal.span),
        features=timeline_pb2.VocalFeatures(**asdict(vocal.features)),
        deviations=vocal.deviations,
        baseline_ready=vocal.baseline_ready,
    )


def _vocal_from(message: timeline_pb2.VocalSummary) -> VocalSummary:
    features = {field.name: value for field, value in message.features.ListFields()}
    return VocalSummary(
        utterance_id=message.utterance_id,
        participant=message.participant,
        span=_span_from(message.span),
        features=VocalFeatures(**features | {"flaws": tuple(message.features.flaws)}),
        deviations=dict(message.deviations),
        baseline_ready=message.baseline_ready,
    )


def _notice(notice: Notice) -> timeline_pb2.Notice:
    return timeline_pb2.Notice(
        code=notice.code, message=notice.message, at_us=notice.at_us, participant=notice.participant
    )


def _notice_from(message: timeline_pb2.Notice) -> Notice:
    return Notice(message.code, message.message, message.at_us, optional(message, "participant"))


def _dynamics(dynamics: Dynamics) -> timeline_pb2.Dynamics:
    return timeline_pb2.Dynamics(**asdict(dynamics))


def _dynamics_from(message: timeline_pb2.Dynamics) -> Dynamics:
    return Dynamics(
        participant=message.participant,
        talk_us=message.talk_us,
        talk_share=message.talk_share,
        overtalk_us=message.overtalk_us,
        interruptions=message.interruptions,
        longest_silence_us=message.longest_silence_us,
        words_per_minute=optional(message, "words_per_minute"),
        until_us=message.until_us,
        successful_interruptions=message.successful_interruptions,
        silence_us=message.silence_us,
        silence_share=message.silence_share,
        responses=message.responses,
        response_median_us=optional(message, "response_median_us"),
        response_p90_us=optional(message, "response_p90_us"),
        words_per_minute_now=optional(message, "words_per_minute_now"),
        monologue_us=message.monologue_us,
        longest_monologue_us=message.longest_monologue_us,
    )


def _interruption(interruption: Interruption) -> timeline_pb2.Interruption:
    return timeline_pb2.Interruption(
        by=interruption.by,
        of=interruption.of,
        span=_span(interruption.span),
        overlap_us=interruption.overlap_us,
        successful=interruption.successful,
    )


def _interruption_from(message: timeline_pb2.Interruption) -> Interruption:
    return Interruption(message.by, message.of, _span_from(message.span), message.overlap_us, message.successful)


def _stage(stage: Stage) -> timeline_pb2.Stage:
    return timeline_pb2.Stage(
        id=stage.id,
        name=STAGES[stage.name],
        span=_span(stage.span),
        confidence=stage.confidence,
        because=stage.because,
    )


def _stage_from(message: timeline_pb2.Stage) -> Stage:
    return Stage(
        id=message.id,
        name=STAGE_NAMES[message.name],
        span=_span_from(message.span),
        confidence=message.confidence,
        because=tuple(message.because),
    )


def _summary(summary: Summary) -> timeline_pb2.Summary:
    return timeline_pb2.Summary(
        lines=summary.lines,
        highlights=[
            timeline_pb2.Highlight(
                moment_id=each.moment_id,
                at_us=each.at_us,
                participant=each.participant,
                emotion=EMOTIONS[each.label],
                probability=each.probability,
                quote=each.quote,
                reason=each.reason,
            )
            for each in summary.highlights
        ],
    )


def _summary_from(message: timeline_pb2.Summary) -> Summary:
    return Summary(
        tuple(message.lines),
        tuple(
            Highlight(
                moment_id=each.moment_id,
                at_us=each.at_us,
                participant=each.participant,
                label=EMOTION_NAMES[each.emotion],
                probability=each.probability,
                quote=each.quote,
                reason=each.reason,
            )
            for each in message.highlights
        ),
    )


def _fact(fact: Fact) -> timeline_pb2.Fact:
    return timeline_pb2.Fact(
        kind=FACT_KINDS[fact.kind],
        participant=fact.participant,
        utterance_id=fact.utterance_id,
        span=_span(fact.span),
        text=fact.text,
    )


def _snapshot(snapshot: Snapshot) -> timeline_pb2.Snapshot:
    return timeline_pb2.Snapshot(
        id=snapshot.id,
        at_us=snapshot.at_us,
        participant=snapshot.participant,
        because=snapshot.because,
        jpeg=b64decode(snapshot.jpeg_base64),
    )


def _snapshot_from(message: timeline_pb2.Snapshot) -> Snapshot:
    return Snapshot(message.id, message.at_us, message.participant, message.because, b64encode(message.jpeg).decode())


def _fact_from(message: timeline_pb2.Fact) -> Fact:
    return Fact(
        kind=FACT_KIND_NAMES[message.kind],
        participant=message.participant,
        utterance_id=message.utterance_id,
        span=_span_from(message.span),
        text=message.text,
    )


def _change(change: ChangePoint) -> timeline_pb2.ChangePoint:
    return timeline_pb2.ChangePoint(
        participant=change.participant,
        at_us=change.at_us,
        before=EMOTIONS[change.before],
        after=EMOTIONS[change.after],
        confidence=change.confidence,
    )


def _change_from(message: timeline_pb2.ChangePoint) -> ChangePoint:
    return ChangePoint(
        message.participant,
        message.at_us,
        EMOTION_NAMES[message.before],
        EMOTION_NAMES[message.after],
        message.confidence,
    )


def _score(score: Score) -> timeline_pb2.Score:
    return timeline_pb2.Score(
        span=_span(score.span), score=score.score, known_us=score.known_us, shares=_emotions(score.labels)
    )


def _score_from(message: timeline_pb2.Score) -> Score:
    span, labels = _span_from(message.span), _emotions_from(message.shares)
    return Score(span, optional(message, "score"), message.known_us, labels)


def _party_scores(scores: PartyScores) -> timeline_pb2.PartyScores:
    return timeline_pb2.PartyScores(
        participant=scores.participant,
        overall=_score(scores.overall),
        quarters=map(_score, scores.quarters),
        trajectory=TRAJECTORIES[scores.trajectory],
        drivers=[
            timeline_pb2.Driver(
                toward=TOWARDS[each.toward], kind=DRIVER_KINDS[each.kind], name=each.name, share=each.share
            )
            for each in scores.drivers
        ],
    )


def _party_scores_from(message: timeline_pb2.PartyScores) -> PartyScores:
    return PartyScores(
        participant=message.participant,
        overall=_score_from(message.overall),
        quarters=tuple(map(_score_from, message.quarters)),
        trajectory=TRAJECTORY_NAMES[message.trajectory],
        drivers=tuple(
            Driver(TOWARD_NAMES[each.toward], DRIVER_KIND_NAMES[each.kind], each.name, each.share)
            for each in message.drivers
        ),
    )


def timeline_parts(timeline: CallTimeline) -> Iterator[timeline_pb2.Timeline]:
    """The timeline in parts of about TIMELINE_PART_BYTES; merged in this order they are the whole."""
    part = timeline_pb2.Timeline(
        schema=timeline.schema,
        name=timeline.name,
        duration_us=timeline.duration_us,
        sample_rate_hertz=timeline.rate_hz,
        participants=map(participant, timeline.participants),
        dynamics=map(_dynamics, timeline.dynamics),
        summary=_summary(timeline.summary),
        models=timeline.models,
        history=customer_history(timeline.history) if timeline.history else None,
        scores=map(_party_scores, timeline.scores),
    )
    size = part.ByteSize()
    items: Iterator[tuple[str, Message]] = chain(
        (("utterances", _utterance(each)) for each in timeline.utterances),
        (("moments", _moment(each)) for each in timeline.moments),
        (("suggestions", _suggestion(each)) for each in timeline.suggestions),
        (("speech_turns", _turn(each)) for each in timeline.speech),
        (("vocal_summaries", _vocal(each)) for each in timeline.vocal),
        (("notices", _notice(each)) for each in timeline.notices),
        (("facts", _fact(each)) for each in timeline.facts),
        (("snapshots", _snapshot(each)) for each in timeline.snapshots),
        (("feedback", suggestion_feedback(each)) for each in timeline.feedback),
        (("changes", _change(each)) for each in timeline.changes),
        (("interruptions", _interruption(each)) for each in timeline.interruptions),
        (("stages", _stage(each)) for each in timeline.stages),
    )
    for field, message in items:
        size += message.ByteSize()
        if size > TIMELINE_PART_BYTES:
            yield part
            part, size = timeline_pb2.Timeline(), message.ByteSize()
        getattr(part, field).append(message)
    yield part


def timeline_from_parts(parts: Iterable[timeline_pb2.Timeline]) -> CallTimeline:
    """The whole of what `timeline_parts` gave."""
    message = timeline_pb2.Timeline()
    for part in parts:
        message.MergeFrom(part)
    return CallTimeline(
        schema=message.schema,
        name=message.name,
        duration_us=message.duration_us,
        rate_hz=message.sample_rate_hertz,
        participants=tuple(map(participant_from_wire, message.participants)),
        utterances=tuple(map(_utterance_from, message.utterances)),
        moments=tuple(map(_moment_from, message.moments)),
        suggestions=tuple(map(_suggestion_from, message.suggestions)),
        speech=tuple(map(_turn_from, message.speech_turns)),
        vocal=tuple(map(_vocal_from, message.vocal_summaries)),
        dynamics=tuple(map(_dynamics_from, message.dynamics)),
        summary=_summary_from(message.summary),
        notices=tuple(map(_notice_from, message.notices)),
        models=dict(message.models),
        facts=tuple(map(_fact_from, message.facts)),
        snapshots=tuple(map(_snapshot_from, message.snapshots)),
        feedback=tuple(map(suggestion_feedback_from_wire, message.feedback)),
        history=customer_history_from_wire(message.history.calls) if message.HasField("history") else None,
        changes=tuple(map(_change_from, message.changes)),
        scores=tuple(map(_party_scores_from, message.scores)),
        interruptions=tuple(map(_interruption_from, message.interruptions)),
        stages=tuple(map(_stage_from, message.stages)),
    )


def reply(item: Reply) -> analyze_pb2.AnalyzeResponse:
    match item:
        case Utterance():
            return analyze_pb2.AnalyzeResponse(utterance=_utterance(item))
        case Moment():
            return analyze_pb2.AnalyzeResponse(moment=_moment(item))
        case Suggestion():
            return analyze_pb2.AnalyzeResponse(suggestion=_suggestion(item))
        case SpeechTurn():
            return analyze_pb2.AnalyzeResponse(speech_turn=_turn(item))
        case VocalSummary():
            return analyze_pb2.AnalyzeResponse(vocal_summary=_vocal(item))
        case Dynamics():
            return analyze_pb2.AnalyzeResponse(dynamics=_dynamics(item))
        case Stage():
            return analyze_pb2.AnalyzeResponse(stage=_stage(item))
        case Notice():
            return analyze_pb2.AnalyzeResponse(notice=_notice(item))
        case Snapshot():
            return analyze_pb2.AnalyzeResponse(snapshot=_snapshot(item))
        case Participant():
            return analyze_pb2.AnalyzeResponse(participant=participant(item))
        case Cursor():
            return analyze_pb2.AnalyzeResponse(
                cursor=analyze_pb2.Cursor(received_us=item.received_us, final_us=item.final_us)
            )


def reply_from_wire(message: analyze_pb2.AnalyzeResponse) -> Reply:
    """One reply other than a part of the timeline."""
    match message.WhichOneof("reply"):
        case "utterance":
            return _utterance_from(message.utterance)
        case "moment":
            return _moment_from(message.moment)
        case "suggestion":
            return _suggestion_from(message.suggestion)
        case "speech_turn":
            return _turn_from(message.speech_turn)
        case "vocal_summary":
            return _vocal_from(message.vocal_summary)
        case "dynamics":
            return _dynamics_from(message.dynamics)
        case "stage":
            return _stage_from(message.stage)
        case "notice":
            return _notice_from(message.notice)
        case "snapshot":
            return _snapshot_from(message.snapshot)
        case "participant":
            return participant_from_wire(message.participant)
        case "cursor":
            return Cursor(message.cursor.received_us, message.cursor.final_us)
        case other:
            raise InvalidInputError(f"expected a reply that this client knows, found {other}")
