"""What the schema says, in plain words: docs/config.md, the JSON Schema, and words for messages.

In: the models of schema.py and nothing else. Out: text. The reference is generated, so a key can't
be missing from it: `python -m foldwise.config.reference > docs/config.md` writes it anew, and a
test fails while the file is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from foldwise.config.grammar import Kind, Part, Path, Words
from foldwise.config.schema import Config

_INTRODUCTION = """\
# Config

<!-- Generated: python -m foldwise.config.reference > docs/config.md -->

Every key, its type, its default and what it does. Only `run.name` and what the task needs
(`data.path`, `data.target` and at least one column to learn from) have no default. A key that isn't
listed is refused, with its line and the nearest key that is.

- **Parts** (pooling, splitter, loss, optimizer, ...) are written as a name (`pooling: mean`) or as
  a map (`pooling: {name: my_parts.Pooling, size: 8}`). A name without dot is built in; a dotted
  name is a library class or one from the files under `code`; other keys are its arguments.
- **`extends: base.yaml`** starts from another file, up to ten in a chain. Maps merge key by key;
  lists are replaced. A part whose `name` changes, `holdout` and `training.average` are replaced
  whole: the arguments of one part mean nothing to another.
- **`--set a.b=c`** replaces the value at its key, after `extends`. A list is set whole:
  `--set 'data.text=[title, body]'`.
- **Paths**: `extends` and `code` are relative to the file that names them, `data.path`,
  `holdout.path` and `run.dir` to the working directory, or URLs of a
  [store](operations.md#stores).
- **`${NAME}`** in `data.path`, `run.dir`, `holdout.path` and `model.backbone` is replaced by the
  environment variable, which must be set; `$${` is a literal `${`. Nowhere else, and not in the
  config.yaml of a run, which holds the values.
- **YAML, without its traps**: only `true` and `false` are truth values (`no`, `on`, `y` are text);
  `1e-5` is a number; `00501`, `0x1f`, `1_000`, `1:30` and dates are text, and so is every key.
  Aliases, tags, `<<`, keys given twice, and a second document are refused.
"""


def config_reference() -> str:
    """Write docs/config.md: a table per section, in the order of the schema."""
    tables = [line for path, model in sections() for line in _table(model, path)]
    return "\n".join([_INTRODUCTION, *tables, ""])


def json_schema() -> str:
    """Write the config's JSON Schema, for editors that complete and check YAML."""
    schema = Config.model_json_schema()
    schema["title"] = "Foldwise config"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    extends = {
        "type": "string",
        "minLength": 1,
        "title": "Extends",
        "description": "Config to start from, relative to this file.",
    }
    schema["properties"] = {"extends": extends, **schema["properties"]}
    # A file that extends another leaves out what its base gives.
    del schema["required"]
    schema["anyOf"] = [{"required": ["run"]}, {"required": ["extends"]}]
    schema["$defs"]["Run"].pop("required")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def type_words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """Say what a type accepts: `a whole number of 1 or more, or null`."""
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        return type_words(annotation, (*inner, *metadata))
    for mark in metadata:
        if isinstance(mark, Words):
            return mark.text
        if isinstance(mark, Kind):
            return mark.words
    if get_origin(annotation) in (Union, UnionType):
        options = [type_words(option, metadata) for option in get_args(annotation)]
        return ", ".join(options[:-1]) + f", or {options[-1]}"
    if get_origin(annotation) is Literal:
        values = [str(value) for value in get_args(annotation)]
        return repr(values[0]) if len(values) == 1 else f"one of {', '.join(values)}"
    if get_origin(annotation) is list:
        item = type_words(get_args(annotation)[0])
        plural = {"text": "texts"}.get(item, item.replace("a whole number", "whole numbers"))
        return ("a list, not empty, of " if _limits(metadata) else "a list of ") + plural
    if get_origin(annotation) is dict:
        return f"a map of label to {type_words(get_args(annotation)[1])}"
    if annotation in (int, float):
        return _number_words(annotation, _limits(metadata))
    return {str: "text", bool: "true or false", NoneType: "null"}.get(annotation, "a map")


def field_at(path: Path) -> tuple[Any, tuple[Any, ...]] | None:
    """Find a key's annotation and metadata, or None for keys that the schema doesn't name."""
    annotation: Any = Config
    metadata: tuple[Any, ...] = ()
    for key in path:
        for option in options(annotation):
            arguments = get_args(option)
            if isinstance(option, type) and issubclass(option, BaseModel):
                if key in option.model_fields:
                    field = option.model_fields[str(key)]
                    annotation, metadata = field.annotation, tuple(field.metadata)
                    break
            elif get_origin(option) is (list if isinstance(key, int) else dict):
                annotation, metadata = arguments[-1], ()
                break
        else:
            return None
    return annotation, metadata


def options(annotation: Any) -> Iterator[Any]:
    """List the plain types that a union, annotated or not, is made of."""
    if get_origin(annotation) is Annotated:
        yield from options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from options(option)
    else:
        yield annotation


def sections() -> Iterator[tuple[Path, type[BaseModel]]]:
    """List every section with its key, the config itself first, in the order of the schema."""
    yield from _sections(Config, ())


def _sections(model: type[BaseModel], path: Path) -> Iterator[tuple[Path, type[BaseModel]]]:
    yield path, model
    for key, field in model.model_fields.items():
        for nested in _nested(field):
            yield from _sections(nested, (*path, key))


def _nested(field: FieldInfo) -> list[type[BaseModel]]:
    """List the sections a field can hold; a part by name alone has no table of its own."""
    plain = [o for o in options(field.annotation) if isinstance(o, type)]
    return [o for o in plain if issubclass(o, BaseModel) and o is not Part]


def _table(model: type[BaseModel], path: Path) -> Iterator[str]:
    if path:
        yield f"\n{'#' * (len(path) + 1)} `{'.'.join(map(str, path))}`\n"
    yield cleandoc(model.__doc__ or "") + "\n"
    yield "| key | type | default | what it does |"
    yield "|---|---|---|---|"
    for key, field in model.model_fields.items():
        nested = bool(_nested(field))
        name = f"[`{key}`](#{''.join(map(str, (*path, key)))})" if nested else f"`{key}`"
        words = type_words(field.annotation, tuple(field.metadata))
        cells = [name, words, _default(field, nested), field.description or ""]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo, nested: bool) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if nested and isinstance(value, BaseModel):
        return "see below"
    return f"`{_yaml_words(value)}`"


def _yaml_words(value: Any) -> str:
    if isinstance(value, Part):
        return value.name
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml_words, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _limits(metadata: tuple[Any, ...]) -> dict[str, Any]:
    """Collect ge, gt, le, lt and min_length from wherever pydantic keeps them."""
    found: dict[str, Any] = {}
    for mark in metadata:
        if isinstance(mark, FieldInfo):
            found |= _limits(tuple(mark.metadata))
        for limit in ("ge", "gt", "le", "lt", "min_length"):
            if getattr(mark, limit, None) is not None:
                found[limit] = getattr(mark, limit)
    return found


def _number_words(kind: type, limits: dict[str, Any]) -> str:
    whole = kind is int
    words = "a whole number" if whole else "a number"
    low, high = limits.get("ge"), limits.get("le")
    if whole and "lt" in limits:
        high = limits.pop("lt") - 1
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    bounds = [f"of {low} or more"] if low is not None else []
    bounds += [f"above {limits['gt']}"] if "gt" in limits else []
    bounds += [f"below {limits['lt']}"] if "lt" in limits else []
    bounds += [f"at most {high}"] if high is not None else []
    return " ".join([words, " and ".join(bounds)]).strip()


if __name__ == "__main__":
    print(config_reference(), end="")
