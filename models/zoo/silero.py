"""Speech gate: Silero VAD 6.2, 16 kHz, in the variant that takes any number of frames per call."""

from pathlib import Path

import numpy as np

from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime, Session
from affectline.models.signals import F32
from affectline.models.store import Artifact, Packaged, RawFile, Wheel, WheelMember, keep_as_is

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
"""Samples before a frame that the network sees with it."""
MAX_FRAMES = 512
"""Per network call; bounds memory for long recordings (16.4 s)."""
FILE = "silero_vad_16k_sequence.onnx"


class SileroGate:
    """Satisfies ports.SpeechGate: one speech probability per 32 ms."""

    frame_samples = FRAME_SAMPLES

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / FILE, threads=1)

    def open(self) -> "SileroStream":
        return SileroStream(self._session)


class SileroStream:
    """One channel of one call. The chunking of the input does not change the output."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._samples = np.zeros(CONTEXT_SAMPLES, np.float32)
        """The context, then what does not fill a frame yet."""
        self._state = {"h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}

    def feed(self, pcm: F32) -> F32:
        """pcm [n] at 16 kHz, any n -> speech probability in [0, 1] of each frame completed, [frames]."""
        self._samples = np.concatenate((self._samples, pcm))
        probabilities = [np.zeros(0, np.float32)]
        while frames := min((len(self._samples) - CONTEXT_SAMPLES) // FRAME_SAMPLES, MAX_FRAMES):
            windows = np.lib.stride_tricks.sliding_window_view(self._samples, CONTEXT_SAMPLES + FRAME_SAMPLES)
            block = np.ascontiguousarray(windows[: frames * FRAME_SAMPLES : FRAME_SAMPLES])
            found = self._session.run({"input": block, **self._state})
            self._state = {"h": found["hn"], "c": found["cn"]}
            self._samples = self._samples[frames * FRAME_SAMPLES :]
            probabilities.append(found["speech_probs"])
        self._samples = self._samples.copy()  # lets go of what was fed
        return np.concatenate(probabilities)


_WHEELS = (
    Wheel("silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8", 11_317_527),
    Wheel("silero-vad", "6.2.2", "0037883f87b39f63414fcc4a707bcecc77c0347b0bd00cb7303b9e5e0f47b3b9", 11_315_950),
)
"""Two releases that carry the same file."""
ARTIFACT = Artifact(
    name="silero",
    licence="MIT",
    raw=(
        RawFile(
            name=FILE,
            sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
            size_bytes=1_246_165,
            sources=tuple(Packaged((WheelMember(wheel, f"silero_vad/data/{FILE}"),)) for wheel in _WHEELS),
        ),
    ),
    files=(FILE,),
    convert=keep_as_is,
    revision=1,
)

MODELS = (ModelSpec("silero", "6.2.3", "speech_gate", ARTIFACT, SileroGate),)
