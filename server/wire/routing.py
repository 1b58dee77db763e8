"""Questions for a queue, and the answers."""

from typing import Final

from affectline.models.errors import InvalidInputError
from affectline.pipelines.chat import MAX_PARTICIPANTS
from affectline.pipelines.routing import Recommendation, RoutingContext
from affectline.pipelines.timeline import CallTimeline, Consent, Participant
from affectline.protos.v1 import routing_pb2, timeline_pb2
from affectline.server.wire.checks import Check, check_history, check_language, check_participants
from affectline.server.wire.names import CONSENT_NAMES, NO_EVIDENCE, PRIORITIES, ROUTING_EVIDENCE, optional
from affectline.server.wire.timeline import participant, timeline_from_parts

MAX_DECLARED_CHARACTERS: Final = 64
MAX_MENU_UTTERANCES: Final = 50
MAX_MENU_CHARACTERS: Final = 2_000


def read_recommend_request(
    message: routing_pb2.RecommendRequest,
) -> tuple[RoutingContext, tuple[str, ...], str | None]:
    """What is known; what was said to the voice menu and may be looked at; and its language, where known.

    Raises MessageError naming every field that is out of range.
    """
    check = Check()
    for field in ("intent", "product", "menu_choice"):
        check.length(getattr(message, field), field, 0, MAX_DECLARED_CHARACTERS)
    language = optional(message, "language")
    check_language(check, "language", language)
    check.that(
        message.consent in {0, *CONSENT_NAMES},
        "consent",
        f"expected granted, pending or denied, found {message.consent}",
    )
    said = [text.strip() for text in message.ivr_utterances[:MAX_MENU_UTTERANCES]]
    check.that(
        len(message.ivr_utterances) <= MAX_MENU_UTTERANCES,
        "ivr_utterances",
        f"expected at most {MAX_MENU_UTTERANCES}, found {len(message.ivr_utterances)}",
    )
    for index, text in enumerate(said):
        check.length(text, f"ivr_utterances[{index}]", 1, MAX_MENU_CHARACTERS)
    history = check_history(check, "history", message.history) if message.HasField("history") else None
    call = _check_call(check, message.call) if message.HasField("call") else None
    check.done()
    objected = message.emotion_routing_objected
    consent = CONSENT_NAMES.get(message.consent, "pending")
    context = RoutingContext(
        intent=message.intent,
        product=message.product,
        choice=message.menu_choice,
        history=history,
        ivr=_unheard_menu(consent) if said and consent != "granted" else None,
        call=call,
        emotion_routing_objected=objected,
    )
    return context, () if objected or consent != "granted" else tuple(said), language


def _unheard_menu(consent: Consent) -> CallTimeline:
    """Says that something was said, and that nobody looked at it."""
    party = Participant("customer", "customer", 0, consent)
    return timeline_from_parts([timeline_pb2.Timeline(participants=[participant(party)])])


def _check_call(check: Check, message: timeline_pb2.Timeline) -> CallTimeline | None:
    """The parts of a timeline that routing looks at; None where they are not what this service writes."""
    check_participants(check, "call.participants", message.participants, MAX_PARTICIPANTS)
    kept = timeline_pb2.Timeline(
        duration_us=message.duration_us,
        participants=message.participants,
        utterances=message.utterances,
        moments=message.moments,
    )
    try:
        return timeline_from_parts([kept])
    except (KeyError, InvalidInputError, ValueError):
        check.problems.append(("call", "expected utterances and moments as this service writes them, found others"))
        return None


def recommendation(answer: Recommendation) -> routing_pb2.RecommendResponse:
    return routing_pb2.RecommendResponse(
        recommendation=routing_pb2.Recommendation(
            queue=answer.queue,
            priority=PRIORITIES[answer.priority],
            skills=answer.skills,
            greeting=answer.greeting,
            reasons=[
                routing_pb2.RoutingReason(
                    text=reason.text,
                    evidence=ROUTING_EVIDENCE[reason.evidence] if reason.evidence else NO_EVIDENCE,
                    because=reason.refs,
                )
                for reason in answer.reasons
            ],
            confidence=answer.confidence,
            used=[ROUTING_EVIDENCE[kind] for kind in answer.used],
            withheld=answer.withheld,
            rule=answer.rule,
            config=answer.config,
        )
    )
