"""YAML files that people write: read into a typed model, every fault named with its line.

A validator points at a part of what it checks through its error's context: `path` (keys and numbers), `key`, `index`.
"""

import reprlib
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from affectline.models.errors import InvalidInputError

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Base of what is read from YAML: no coercion, no unknown fields, no change afterwards."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            if key not in known:
                raise PydanticCustomError(
                    "unknown_field",
                    "unknown field '{key}'; expected one of {expected}",
                    {"key": key, "expected": ", ".join(known)},
                )
        return data


def template_names(text: str) -> list[str]:
    """Names of a template's `{variables}`. Raises ValueError unless each is a plain name: a width, an attribute or an
    index could make a line as long as memory, or fail only when it is filled.
    """
    names = []
    for _, name, spec, conversion in Formatter().parse(text):
        if name is not None:
            if spec or conversion or not name.isidentifier():
                more = " and more" if spec or conversion else ""
                raise ValueError(f"expected a plain name between braces, found {reprlib.repr(name)}{more}")
            names.append(name)
    return names


def read_checked(source: Path | str, model: type[M], name: str, context: Any = None) -> M:
    """A model from a file, or from YAML text that `name` stands for in messages; `context` is for its validators.

    Raises InvalidInputError that lists every fault as `default.yaml line 12: …`.
    """
    name = source.name if isinstance(source, Path) else name
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"expected a readable YAML file at {source}, found: {error}") from error
    try:
        data = yaml.safe_load(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInputError(f"{name} line {line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # the last three: PyYAML's own slips
        raise InvalidInputError(f"{name}: not valid YAML: {error}") from error
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        faults = [f"{name} line {_line(root, fault)}: {_fault(fault)}" for fault in error.errors()]
        raise InvalidInputError("\n".join(faults)) from None


def _line(node: Any, fault: ErrorDetails) -> int:
    """Line of the key or item a fault is about; parts of the location that YAML does not have are skipped."""
    line: int = node.start_mark.line + 1 if node else 1
    context = fault.get("ctx", {})
    for part in (*fault["loc"], *context.get("path", ()), context.get("key"), context.get("index")):
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
    return line


def _fault(fault: ErrorDetails) -> str:
    place = [part for part in fault["loc"] if isinstance(part, str)]
    where = f"{place[-1]}: " if place and fault["type"] != "unknown_field" else ""
    found = fault["input"]
    shown = f", found {reprlib.repr(found)}" if found is None or isinstance(found, str | int | float) else ""
    return f"{where}{fault['msg']}{shown}"
