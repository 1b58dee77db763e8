"""Loads what all calls share, and opens calls on it."""

from collections.abc import Mapping
from pathlib import Path

from affectline.models.errors import InvalidInputError
from affectline.models.ports import Task
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.store import Store, default_root
from affectline.pipelines.policy import DEFAULT_POLICIES, load_policies
from affectline.pipelines.session import CallConfig, CallSession, ModelSet

DEFAULT_MODELS: Mapping[Task, str] = {
    "speech_gate": "silero",
    "acoustic_encoder": "whisper-base-encoder",
    "recogniser": "whisper-base",
    "voice_affect": "voice-first",
    "text_affect": "words-first",
}


class Engine:
    """Models and policies, loaded once. Raises ModelMissingError, ModelCorruptError or InvalidInputError."""

    def __init__(
        self,
        *,
        store: Store | None = None,
        runtime: Runtime | None = None,
        models: Mapping[Task, str] | None = None,
        policies: Path | None = None,
    ) -> None:
        """`models`: other names than DEFAULT_MODELS, by task. `policies`: another pack than the default one."""
        known = all_models()
        chosen = {**DEFAULT_MODELS, **(models or {})}
        for task, name in chosen.items():
            if name not in known or known[name].task != task:
                fitting = ", ".join(spec.name for spec in known.values() if spec.task == task)
                raise InvalidInputError(f"expected a model for {task} of {fitting}; found {name!r}")
        store, runtime = store or Store(default_root()), runtime or Runtime()
        loaded = {task: load_model(known[name], store, runtime) for task, name in chosen.items()}
        self.models = ModelSet(
            gate=loaded["speech_gate"],
            encoder=loaded["acoustic_encoder"],
            recogniser=loaded["recogniser"],
            voice=loaded["voice_affect"],
            text=loaded["text_affect"],
            versions={task: known[name].id for task, name in chosen.items()},
        )
        self.policies = load_policies(policies or DEFAULT_POLICIES)

    def open(self, config: CallConfig) -> CallSession:
        return CallSession(config, self.models, self.policies)
