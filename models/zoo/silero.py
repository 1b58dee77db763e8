"""Speech gate: Silero VAD 6.2, 16 kHz, in the variant that takes any number of frames per call.

The network hardly knows voices as high as a shout or a cry: it takes many of them for no speech. What is loud and no
speech to it is looked at once more, slowed, which brings voices down to where it knows them; music stays music.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np

from affectline.models.convert.silero import FILE, HIDDEN, PUBLISHED, convert
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime, Session
from affectline.models.signals import F32
from affectline.models.store import Artifact, Packaged, RawFile, Wheel, WheelMember

FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
"""Samples before a frame that the network sees with it."""
MAX_FRAMES = 512
"""Per network call; bounds memory for long recordings (16.4 s)."""
LOUD_POWER, UNSURE = 1e-3, 0.5
"""A frame as loud as this (-30 dBFS) that is less likely speech is looked at again."""
BEFORE_FRAMES, AFTER_FRAMES = 15, 30
"""The second look begins so long before such a frame, to know what it follows, and ends so long after the last one."""
DOUBT = 0.15
"""By which the second look's probability is lowered: keyed tones come near to speech there."""
SLOWED = Fraction(7, 5)
"""Length of the sound at the second look, by what it is."""


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
        self._network = _Network(session)
        self._samples = np.zeros(0, np.float32)
        """What does not fill a frame yet."""
        self._before = np.zeros((0, FRAME_SAMPLES), np.float32)
        """The last BEFORE_FRAMES frames."""
        self._second: _Slowed | None = None
        """While something is looked at again."""
        self._sure_frames = 0
        """Since the last one that was loud and no speech."""

    def feed(self, pcm: F32) -> F32:
        """pcm [n] at 16 kHz, any n -> speech probability in [0, 1] of each frame completed, [frames]."""
        self._samples = np.concatenate((self._samples, pcm))
        probabilities = [np.zeros(0, np.float32)]
        while count := min(len(self._samples) // FRAME_SAMPLES, MAX_FRAMES):
            frames = self._samples[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)
            probabilities.append(self._again(frames, self._network.feed(frames)))
            self._samples = self._samples[count * FRAME_SAMPLES :]
        self._samples = self._samples.copy()  # lets go of what was fed
        return np.concatenate(probabilities)

    def _again(self, frames: F32, probabilities: F32) -> F32:
        """The same probabilities, or those of the second look where they are higher."""
        known = np.concatenate((self._before, frames))
        unsure = (np.square(frames).mean(axis=1) >= LOUD_POWER) & (probabilities < UNSURE)
        if self._second or unsure.any():
            looked = 0
            for index, looks_again in enumerate(unsure.tolist()):
                self._sure_frames = 0 if looks_again else self._sure_frames + 1
                if self._second and self._sure_frames > AFTER_FRAMES:
                    self._look(frames[looked:index], probabilities[looked:index])
                    self._second = None
                elif looks_again and self._second is None:
                    self._second, looked = _Slowed(self._session), index
                    now = len(self._before) + index
                    self._second.feed(known[max(0, now - BEFORE_FRAMES) : now])
            self._look(frames[looked:], probabilities[looked:])
        self._before = known[-BEFORE_FRAMES:].copy()
        return probabilities

    def _look(self, frames: F32, probabilities: F32) -> None:
        """The second look, if there is one, at frames that come next; raises their probabilities to its own."""
        if self._second and len(frames):
            np.maximum(probabilities, self._second.feed(frames) - np.float32(DOUBT), out=probabilities)


class _Network:
    """Its state over a stream of whole frames."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._state = {"h": np.zeros((1, 1, HIDDEN), np.float32), "c": np.zeros((1, 1, HIDDEN), np.float32)}

    def feed(self, frames: F32) -> F32:
        """[frames, FRAME_SAMPLES] -> speech probability of each."""
        samples = np.concatenate((self._context, frames.ravel()))
        windows = np.lib.stride_tricks.sliding_window_view(samples, CONTEXT_SAMPLES + FRAME_SAMPLES)
        found = self._session.run({"input": np.ascontiguousarray(windows[::FRAME_SAMPLES]), **self._state})
        self._state = {"h": found["hn"], "c": found["cn"]}
        self._context = samples[-CONTEXT_SAMPLES:].copy()
        return found["speech_probs"]


class _Slowed:
    """The network over the same sound, slowed."""

    def __init__(self, session: Session) -> None:
        self._network = _Network(session)
        self._frames = 0
        """Fed so far."""
        self._last = np.zeros(0, np.float32)
        """The last sample: the slowed sound goes on between it and the next one."""
        self._samples = np.zeros(0, np.float32)
        """Slowed, what does not fill a frame yet."""

    def feed(self, frames: F32) -> F32:
        """[frames, FRAME_SAMPLES] -> mean speech probability of the slowed frames that each completes, [frames]."""
        if not len(frames):
            return np.zeros(0, np.float32)
        pcm = np.concatenate((self._last, frames.ravel()))
        first = self._frames * FRAME_SAMPLES - len(self._last)
        # Slowed samples before each of the frames, and after the last one. The k-th is at k / SLOWED.
        heard = np.arange(self._frames, self._frames + len(frames) + 1) * FRAME_SAMPLES
        slowed = np.maximum(0, (heard - 1) * SLOWED.numerator // SLOWED.denominator + 1)
        places = np.arange(slowed[0], slowed[-1]) * SLOWED.denominator / SLOWED.numerator - first
        self._frames += len(frames)
        self._last = pcm[-1:].copy()
        self._samples = np.concatenate((self._samples, np.interp(places, np.arange(len(pcm)), pcm).astype(np.float32)))
        count = len(self._samples) // FRAME_SAMPLES
        whole, self._samples = np.split(self._samples, [count * FRAME_SAMPLES])
        found = self._network.feed(whole.reshape(count, FRAME_SAMPLES))
        completed = slowed // FRAME_SAMPLES - slowed[0] // FRAME_SAMPLES
        return np.asarray(np.add.reduceat(found, completed[:-1]) / np.diff(completed), np.float32)


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
            name=PUBLISHED,
            sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
            size_bytes=1_246_165,
            sources=tuple(Packaged((WheelMember(wheel, f"silero_vad/data/{PUBLISHED}"),)) for wheel in _WHEELS),
        ),
    ),
    files=(FILE,),
    convert=convert,
    revision=2,
)

MODELS = (ModelSpec("silero", "6.2.3", "speech_gate", ARTIFACT, SileroGate),)
