"""Finds every model: each module in `models/zoo/` declares `MODELS`, a tuple of ModelSpec."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from affectline.models import zoo
from affectline.models.ports import Task
from affectline.models.runtime import Runtime
from affectline.models.store import Artifact, Store


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model that can be chosen by name."""

    name: str
    version: str
    task: Task
    artifact: Artifact | None
    """Weights it needs from the store; None when they are part of the package."""
    load: Callable[[Path, Runtime], Any]
    """(folder with the artifact's files, or the zoo folder) -> an object that satisfies the task's port."""
    default: bool = True
    """Whether `models pull` without names fetches it."""
    restricted: str | None = None
    """What its licence forbids, in a few words; such a model is used only by who accepts it."""
    extra: str | None = None
    """The optional dependencies that it needs and that bring its weights."""

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


def all_models() -> dict[str, ModelSpec]:
    """Name -> spec of every model in the zoo, in name order."""
    specs: dict[str, ModelSpec] = {}
    for module in iter_modules(zoo.__path__):
        for spec in import_module(f"{zoo.__name__}.{module.name}").MODELS:
            if spec.name in specs:
                raise ValueError(f"two models are named {spec.name!r}")
            specs[spec.name] = spec
    return dict(sorted(specs.items()))


def load_model(spec: ModelSpec, store: Store, runtime: Runtime) -> Any:
    """Loads one model after reading its every byte; raises ModelMissingError or ModelCorruptError."""
    folder = store.verify(spec.artifact) if spec.artifact else Path(__file__).parent / "zoo"
    return spec.load(folder, runtime)
