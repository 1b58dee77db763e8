"""Loads what all calls share, and opens calls on it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from affectline.models import cards
from affectline.models.errors import InvalidInputError
from affectline.models.labels import Label
from affectline.models.ports import Task
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.store import Store, default_root
from affectline.models.zoo.expression_file import expression_file
from affectline.models.zoo.pyannote import pyannote_pipeline
from affectline.models.zoo.voice import trained_head
from affectline.models.zoo.whisper_folder import TwoEncoders, whisper_folder
from affectline.pipelines.chat import ChatConfig, ChatSession
from affectline.pipelines.cues import load_cues
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.mono_live import MonoSession
from affectline.pipelines.pace import UNHURRIED
from affectline.pipelines.policy import DEFAULT_POLICIES, load_policies
from affectline.pipelines.session import CallConfig, CallSession, ModelSet
from affectline.server.pace import SharedPace
from affectline.server.site_store import SiteStore

DEFAULT_MODELS: Mapping[Task, str] = {
    "speech_gate": "silero",
    "acoustic_encoder": "whisper-base-encoder",
    "recogniser": "whisper-base",
    "voice_affect": "voice-open",
    "text_affect": "words-minilm",
    "face_detector": "centerface",
    "expression": "mini-xception",
    "speaker_encoder": "resemblyzer",
}
WARM_UPS = 2
"""At each place: those of a single round may hardly be heard at the same time."""


_CARDS = Path(cards.__path__[0])


def default_labels() -> frozenset[Label]:
    """The labels that some default model can say, from the models' cards: nothing is loaded."""
    names = (DEFAULT_MODELS[task] for task in ("voice_affect", "text_affect", "expression"))
    found = (yaml.safe_load((_CARDS / f"{name}.yaml").read_text(encoding="utf-8"))["produces"] for name in names)
    return frozenset(label for labels in found for label in labels)


class Engine:
    """Models and policies, loaded once. Raises ModelMissingError, ModelCorruptError or InvalidInputError."""

    def __init__(
        self,
        *,
        store: Store | None = None,
        runtime: Runtime | None = None,
        voice_model: str | None = None,
        face_model: str | None = None,
        speech_model: str | None = None,
        diarizer: str | None = None,
        policies: Path | None = None,
        cues: Sequence[Path] = (),
        site: Path | None = None,
        accept_licences: bool = False,
    ) -> None:
        """`voice_model`: another registered one by name, or a file written by `affectline train voice`.

        `face_model`: another registered expression model by name, or an ONNX file of HSEmotion's kind.
        `speech_model`: another registered recogniser by name, or a folder that `affectline models export whisper`
        wrote. Where the folder's encoder is not the one that the voice models learnt from, that one runs beside it.
        `diarizer`: a pipeline of pyannote.audio by its folder, config file or name on the hub, or a registered one by
        name; tells voices of recordings apart in place of our own search.
        `policies`: another pack than the default one.
        `cues`: files that add to or take from the default cue lexicon, in order.
        `site`: folder in which the site baseline is kept; None neither learns nor uses one.
        `accept_licences`: models under a restricted licence may be used.
        """
        known = all_models()
        chosen = dict(DEFAULT_MODELS)
        if voice_model and voice_model.endswith(".onnx"):
            spec = trained_head(Path(voice_model))
            known[spec.name] = spec
            chosen["voice_affect"] = spec.name
        elif voice_model:
            chosen["voice_affect"] = voice_model
        if face_model and face_model.endswith(".onnx"):
            spec = expression_file(Path(face_model))
            known[spec.name] = spec
            chosen["expression"] = spec.name
        elif face_model:
            chosen["expression"] = face_model
        voice_encoder = None
        recognisers = [spec.name for spec in known.values() if spec.task == "recogniser"]
        if speech_model in recognisers:
            chosen |= {"acoustic_encoder": f"{speech_model}-encoder", "recogniser": speech_model}
        elif speech_model and not Path(speech_model).is_dir():
            raise InvalidInputError(
                f"expected a recogniser of {', '.join(recognisers)}, or a folder that `affectline models export "
                f"whisper` wrote; found {speech_model!r}"
            )
        elif speech_model:
            usual = known[chosen["acoustic_encoder"]]
            encoder, recogniser, feeds_voice = whisper_folder(Path(speech_model))
            voice_encoder = None if feeds_voice else usual
            known |= {encoder.name: encoder, recogniser.name: recogniser}
            chosen |= {"acoustic_encoder": encoder.name, "recogniser": recogniser.name}
        if diarizer:
            spec = known.get(diarizer) or pyannote_pipeline(diarizer)
            known[spec.name] = spec
            chosen["diarizer"] = spec.name
        for task, name in chosen.items():
            if name not in known or known[name].task != task:
                fitting = ", ".join(spec.name for spec in known.values() if spec.task == task)
                raise InvalidInputError(f"expected a model for {task} of {fitting}, or FILE.onnx; found {name!r}")
            if (restriction := known[name].restricted) and not accept_licences:
                raise InvalidInputError(
                    f"{name} is under {restriction}: expected --accept-license to use it, found none"
                )
        store, runtime = store or Store(default_root()), runtime or Runtime()
        loaded = {task: load_model(known[name], store, runtime) for task, name in chosen.items()}
        versions: dict[str, str] = {task: known[name].id for task, name in chosen.items() if task != "diarizer"}
        if voice_encoder:
            loaded["acoustic_encoder"] = TwoEncoders(
                loaded["acoustic_encoder"], load_model(voice_encoder, store, runtime)
            )
            versions["acoustic_encoder"] += f" and {voice_encoder.id}"
        self.models = ModelSet(
            gate=loaded["speech_gate"],
            encoder=loaded["acoustic_encoder"],
            recogniser=loaded["recogniser"],
            voice=loaded["voice_affect"],
            text=loaded["text_affect"],
            face_detector=loaded["face_detector"],
            expression=loaded["expression"],
            speakers=loaded["speaker_encoder"],
            cues=load_cues(*cues),
            versions=versions,
            diarizer=loaded.get("diarizer"),
        )
        voice = self.models.voice
        judges = (voice, self.models.text, self.models.expression)
        producible = {label for model in judges for label, share in model.prior.items() if share > 0}
        self.policies = load_policies(policies or DEFAULT_POLICIES, producible)
        self._sites = SiteStore(site, voice.model, voice.usual) if site else None
        self.pace: SharedPace | None = None
        """How the calls of a server share the processor; None where a call has it for itself."""

    def warm_up(self, places: int) -> None:
        """Hears so many of the longest windows at once: networks then have the room that they need at their busiest.

        What calls take on top later is their own, and the first call is as fast as the next.
        """
        silence = np.zeros(self.models.encoder.window_samples, np.float32)

        def hear(_: int) -> None:
            self.models.recogniser.transcribe(self.models.encoder.encode(silence))

        with ThreadPoolExecutor(places) as threads:
            list(threads.map(hear, range(WARM_UPS * places)))

    def open(self, config: CallConfig) -> CallSession:
        """Raises InvalidInputError, or StorageError when the site baseline cannot be read."""
        pace = (self.pace.live if config.live else self.pace.recorded) if self.pace else UNHURRIED
        if self._sites is None:
            return CallSession(config, self.models, self.policies, pace=pace)
        stats = self._sites.stats(config.rate_hz)
        learn = partial(self._sites.learn, config.rate_hz)
        return CallSession(config, self.models, self.policies, site=stats, learn=learn, pace=pace)

    def open_mono(self, config: MonoConfig) -> MonoSession:
        """A running call whose voices share one channel. Raises what `open` raises."""
        return MonoSession(config, self.models, self.open)

    def open_chat(self, config: ChatConfig) -> ChatSession:
        """A written conversation."""
        return ChatSession(config, self.models, self.policies)
