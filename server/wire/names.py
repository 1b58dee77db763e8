"""Names of the pipeline's types and the values of the protocol's enums that stand for them."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import Message

from affectline.protos.v1 import analyze_pb2, calls_pb2, routing_pb2, timeline_pb2


def _values(enum: Any, prefix: str) -> dict[str, Any]:
    """Our name of each value of an enum, `_UNSPECIFIED` left out."""
    return {name.removeprefix(prefix).lower(): value for name, value in enum.items() if value}


def _names(values: Mapping[str, Any]) -> dict[Any, Any]:
    return {value: name for name, value in values.items()}


ROLES: Final = _values(timeline_pb2.Role, "ROLE_")
CONSENTS: Final = _values(timeline_pb2.Consent, "CONSENT_")
EMOTIONS: Final = _values(timeline_pb2.Emotion, "EMOTION_")
FACT_KINDS: Final = _values(timeline_pb2.FactKind, "FACT_KIND_")
STAGES: Final = _values(timeline_pb2.StageName, "STAGE_NAME_")
CUE_KINDS: Final = _values(timeline_pb2.CueKind, "CUE_KIND_")
PERSONAL_KINDS: Final = _values(timeline_pb2.PersonalKind, "PERSONAL_KIND_")
MODALITIES: Final = _values(timeline_pb2.Modality, "MODALITY_")
VERDICTS: Final = _values(timeline_pb2.Verdict, "VERDICT_")
OUTCOMES: Final = _values(timeline_pb2.CallOutcome, "CALL_OUTCOME_")
KINDS: Final = _values(timeline_pb2.SuggestionKind, "SUGGESTION_KIND_")
PRIORITIES: Final = _values(timeline_pb2.Priority, "PRIORITY_")
GAP_REASONS: Final = {
    name.replace("_", " "): value for name, value in _values(analyze_pb2.GapReason, "GAP_REASON_").items()
}
TRAJECTORIES: Final = _values(timeline_pb2.Trajectory, "TRAJECTORY_")
TOWARDS: Final = _values(timeline_pb2.Toward, "TOWARD_")
DRIVER_KINDS: Final = _values(timeline_pb2.DriverKind, "DRIVER_KIND_")
OUTCOME_KINDS: Final = _values(calls_pb2.OutcomeKind, "OUTCOME_KIND_")
FACINGS: Final = _values(analyze_pb2.CameraFacing, "CAMERA_FACING_")
VIDEO_CODECS: Final = _values(analyze_pb2.VideoCodec, "VIDEO_CODEC_")
ENCODINGS: Final = _values(analyze_pb2.AudioEncoding, "AUDIO_ENCODING_")
ROUTING_EVIDENCE: Final = _values(routing_pb2.RoutingEvidence, "ROUTING_EVIDENCE_")
NO_EVIDENCE: Final = routing_pb2.ROUTING_EVIDENCE_UNSPECIFIED
ROLE_NAMES: Final = _names(ROLES)
CONSENT_NAMES: Final = _names(CONSENTS)
EMOTION_NAMES: Final = _names(EMOTIONS)
FACT_KIND_NAMES: Final = _names(FACT_KINDS)
STAGE_NAMES: Final = _names(STAGES)
CUE_KIND_NAMES: Final = _names(CUE_KINDS)
PERSONAL_KIND_NAMES: Final = _names(PERSONAL_KINDS)
MODALITY_NAMES: Final = _names(MODALITIES)
KIND_NAMES: Final = _names(KINDS)
OUTCOME_NAMES: Final = _names(OUTCOMES)
PRIORITY_NAMES: Final = _names(PRIORITIES)
TRAJECTORY_NAMES: Final = _names(TRAJECTORIES)
TOWARD_NAMES: Final = _names(TOWARDS)
DRIVER_KIND_NAMES: Final = _names(DRIVER_KINDS)
OUTCOME_KIND_NAMES: Final = _names(OUTCOME_KINDS)
VERDICT_NAMES: Final = _names(VERDICTS)
GAP_REASON_NAMES: Final = _names(GAP_REASONS)
FACING_NAMES: Final = _names(FACINGS)
VIDEO_CODEC_NAMES: Final = _names(VIDEO_CODECS)
ENCODING_NAMES: Final = _names(ENCODINGS)


def optional(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None
