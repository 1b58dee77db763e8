"""Vocal stress: features of a voice, the speaker's own baseline, and a score of tension against it."""

from affectline.pipelines.vocal.baseline import CALM_STRESS, MODEL, SpeakerBaseline, stress
from affectline.pipelines.vocal.stream import FRAME_SAMPLES, VocalStream, vocal_features

__all__ = ["CALM_STRESS", "FRAME_SAMPLES", "MODEL", "SpeakerBaseline", "VocalStream", "stress", "vocal_features"]
