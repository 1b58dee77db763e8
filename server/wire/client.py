"""Requests, as a client writes them."""

from typing import Final

import numpy as np

from affectline.models.signals import F32, EncodedFrame, GapReason
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.session import CallConfig
from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.server.wire.names import CONSENTS, ENCODINGS, FACINGS, GAP_REASONS, ROLES, VIDEO_CODECS
from affectline.server.wire.stream import AudioFormat
from affectline.server.wire.timeline import customer_history, participant


def mono_config(config: MonoConfig, audio: AudioFormat) -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(
        config=analyze_pb2.CallConfig(
            name=config.name,
            encoding=ENCODINGS[audio.encoding],
            sample_rate_hertz=audio.rate_hz,
            audio_channel_count=audio.channels,
            language=config.language,
            interim_results=config.interim_results,
            voices=timeline_pb2.MixedVoices(
                consent=CONSENTS[config.consent],
                roles=[ROLES[role] for role in config.roles],
                count=config.count or 0,
                biometric_basis=config.biometric_basis,
            ),
        )
    )


def call_config(config: CallConfig, audio: AudioFormat) -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(
        config=analyze_pb2.CallConfig(
            name=config.name,
            participants=map(participant, config.participants),
            encoding=ENCODINGS[audio.encoding],
            sample_rate_hertz=audio.rate_hz,
            audio_channel_count=audio.channels,
            language=config.language,
            interim_results=config.interim_results,
            cameras=[
                analyze_pb2.Camera(
                    id=camera.id,
                    participant=camera.participant,
                    facing=FACINGS[camera.facing],
                    codec=VIDEO_CODECS[camera.codec] if camera.codec else analyze_pb2.VIDEO_CODEC_UNSPECIFIED,
                    rotation_degrees=camera.rotation_degrees,
                )
                for camera in config.cameras
            ],
            history=customer_history(config.history) if config.history else None,
        )
    )


def audio_float32(pcm: F32, start_sample: int) -> analyze_pb2.AnalyzeRequest:
    """pcm [channels, n] as FLOAT32, so that the service sees exactly these samples."""
    data = np.ascontiguousarray(pcm.T).astype("<f4").tobytes()
    return analyze_pb2.AnalyzeRequest(audio=analyze_pb2.Audio(data=data, start_sample=start_sample))


def video_frame(frame: EncodedFrame) -> analyze_pb2.AnalyzeRequest:
    video = analyze_pb2.VideoFrame(camera=frame.camera, image=frame.image, at_us=frame.at_us)
    return analyze_pb2.AnalyzeRequest(video=video)


def gap(duration_us: int, reason: GapReason) -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(gap=analyze_pb2.Gap(duration_us=duration_us, reason=GAP_REASONS[reason]))


END: Final = analyze_pb2.AnalyzeRequest(end=analyze_pb2.End())
