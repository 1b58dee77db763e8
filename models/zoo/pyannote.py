"""Who speaks when, by a pipeline of pyannote.audio (Bredin 2023), for who has the extra `pyannote`.

The package is imported only when this model is chosen. A pipeline is a folder with a config.yaml, that file, or a name
on the hub; for gated ones huggingface_hub takes its token from HF_TOKEN or its own login. pyannote.audio builds
whatever classes a pipeline names and unpickles its weights: a pipeline is trusted like a program. Its telemetry is off.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from affectline.models.errors import FetchError, InvalidInputError
from affectline.models.registry import ModelSpec
from affectline.models.signals import F32, Span, SpeakerTurn

COMMUNITY: Final = "pyannote/speaker-diarization-community-1"
MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 192_000
MAX_SPEAKERS: Final = 50
TELEMETRY: Final = "PYANNOTE_METRICS_ENABLED"


class PyannoteDiarizer:
    """Satisfies ports.Diarizer; runs on a CUDA device where PyTorch finds one."""

    def __init__(self, source: str, *, threads: int | None = None) -> None:
        """`threads`: of PyTorch, in the whole process; None leaves them as they are.

        Raises InvalidInputError without package or pipeline in the folder, FetchError without one on the hub.
        """
        path = Path(source)
        self.model = f"{(path.resolve().parent if path.is_file() else path).name}@1"
        os.environ.setdefault(TELEMETRY, "false")  # it would tell its makers of every file that is analysed
        try:
            torch, audio = import_module("torch"), import_module("pyannote.audio")
        except ImportError as error:
            raise InvalidInputError(
                f"expected the package pyannote.audio, found: {error}; run `pip install 'affectline[pyannote]'`"
            ) from error
        local = path.exists()
        try:
            pipeline = audio.Pipeline.from_pretrained(source)
        except Exception as error:  # whatever its classes and the hub's client raise
            said = f"expected a pipeline of pyannote.audio in {source}, found: {str(error).partition(chr(10))[0]}"
            raise (InvalidInputError(said) if local else FetchError(said)) from error
        if pipeline is None:
            raise FetchError(
                f"expected a pipeline of pyannote.audio at {source}, found none that this account may read"
            )
        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._pipeline = pipeline.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def diarize(self, pcm: F32, rate_hz: int, *, speakers: int | None = None) -> tuple[SpeakerTurn, ...]:
        if pcm.ndim != 1 or not len(pcm) or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise InvalidInputError(
                f"expected sound [n] of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, found {list(pcm.shape)} of {rate_hz} Hz"
            )
        if speakers is not None and not 1 <= speakers <= MAX_SPEAKERS:
            raise InvalidInputError(f"expected 1 to {MAX_SPEAKERS} speakers, found {speakers}")
        sound = self._torch.from_numpy(np.ascontiguousarray(pcm[None]))
        found = self._pipeline({"waveform": sound, "sample_rate": rate_hz, "uri": "sound"}, num_speakers=speakers)
        # Pipelines before the fourth version give the turns themselves.
        turns = getattr(found, "speaker_diarization", found).itertracks(yield_label=True)
        return _turns(turns, round(len(pcm) * 1e6 / rate_hz))


def _turns(turns: Any, end_us: int) -> tuple[SpeakerTurn, ...]:
    """Segments in seconds, which may reach beyond the sound by part of a window."""
    placed = []
    for segment, _, speaker in turns:
        start, end = (min(end_us, max(0, round(seconds * 1e6))) for seconds in (segment.start, segment.end))
        if start < end:
            placed.append(SpeakerTurn(Span(start, end), str(speaker)))
    return tuple(sorted(placed))


def pyannote_pipeline(source: str, name: str = "pyannote") -> ModelSpec:
    """A pipeline by its folder, file or name on the hub."""
    return ModelSpec(
        name=name,
        version="1",
        task="diarizer",
        artifact=None,
        load=lambda folder, runtime: PyannoteDiarizer(source, threads=runtime.threads),
        default=False,
        extra="pyannote",
    )


MODELS = (pyannote_pipeline(COMMUNITY),)
