"""Between protobuf messages and the types of the pipeline; the only place that knows both.

Towards the service, messages are checked: a MessageError breaks the protocol and ends the call, any
other InvalidInputError concerns one piece of media. Towards the wire, types are taken as they are.
"""

from affectline.server.wire.checks import MAX_PROBLEMS, MessageError
from affectline.server.wire.client import END, audio_float32, call_config, gap, mono_config, video_frame
from affectline.server.wire.names import (
    CONSENTS,
    DRIVER_KINDS,
    EMOTIONS,
    FACINGS,
    GAP_REASONS,
    KINDS,
    MODALITIES,
    OUTCOMES,
    ROLES,
    ROUTING_EVIDENCE,
    STAGES,
    TOWARDS,
    TRAJECTORIES,
    VERDICTS,
    VIDEO_CODECS,
)
from affectline.server.wire.requests import (
    RecordingConfig,
    read_call_config,
    read_call_details,
    read_feedback,
    read_outcome,
    read_recording_config,
    read_text_request,
)
from affectline.server.wire.routing import read_recommend_request, recommendation
from affectline.server.wire.stream import AudioFormat, CallReader, decode_audio
from affectline.server.wire.timeline import (
    Cursor,
    Reply,
    participant,
    reply,
    reply_from_wire,
    suggestion_feedback,
    timeline_from_parts,
    timeline_parts,
)

__all__ = [
    "CONSENTS",
    "DRIVER_KINDS",
    "EMOTIONS",
    "END",
    "FACINGS",
    "GAP_REASONS",
    "KINDS",
    "MAX_PROBLEMS",
    "MODALITIES",
    "OUTCOMES",
    "ROLES",
    "ROUTING_EVIDENCE",
    "STAGES",
    "TOWARDS",
    "TRAJECTORIES",
    "VERDICTS",
    "VIDEO_CODECS",
    "AudioFormat",
    "CallReader",
    "Cursor",
    "MessageError",
    "RecordingConfig",
    "Reply",
    "audio_float32",
    "call_config",
    "decode_audio",
    "gap",
    "mono_config",
    "participant",
    "read_call_config",
    "read_call_details",
    "read_feedback",
    "read_outcome",
    "read_recommend_request",
    "read_recording_config",
    "read_text_request",
    "recommendation",
    "reply",
    "reply_from_wire",
    "suggestion_feedback",
    "timeline_from_parts",
    "timeline_parts",
    "video_frame",
]
