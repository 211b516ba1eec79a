"""Settings as TOML: presets state only what differs from the dataclass that they configure."""

import tomllib
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from miao.errors import ConfigError

T = TypeVar("T")


def from_table(kind: type[T], table: dict[str, Any], where: str = "") -> T:
    """A dataclass from a table that may leave fields out. Raises: ConfigError for a key or a type that does not fit."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        name = f"{where}{key}"
        if key not in known:
            raise ConfigError(f'"{name}" is not a setting; there are {", ".join(sorted(known))}')
        if is_dataclass(hints[key]):
            if not isinstance(value, dict):
                raise ConfigError(f'"{name}" is a group of settings, got {value!r}')
            value = from_table(hints[key], value, f"{name}.")
        elif isinstance(value, list):
            value = tuple(value)
        elif hints[key] is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        elif hints[key] in (int, float, str, bool) and type(value) is not hints[key]:
            raise ConfigError(f'"{name}" must be {hints[key].__name__}, got {value!r}')
        values[key] = value
    return kind(**values)


def preset_table(name: str) -> dict[str, Any]:
    """What a preset states, by name (see ``presets/``) or by path. Raises: ConfigError if there is no such preset."""
    folder = resources.files("miao") / "presets"
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        names = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".toml"))
        raise ConfigError(f'no preset "{name}"; there are {", ".join(names)}, or give a path to a .toml file')
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML ({error})") from None


def load_preset(kind: type[T], name: str, changes: tuple[str, ...] = ()) -> T:
    """A preset as a ``kind``, with changes such as ``model.width=64`` on top.

    Raises: ConfigError if there is no such preset or a change does not fit.
    """
    table = preset_table(name)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f'"{change}": a change is written group.setting=value')
        *groups, last = key.split(".")
        place = table
        for group in groups:
            place = place.setdefault(group, {})
        try:
            place[last] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            place[last] = value
    return from_table(kind, table)


def to_toml(table: dict[str, Any]) -> str:
    """A table of groups of plain values as TOML."""
    lines = []
    for group, values in table.items():
        lines.append(f"[{group}]")
        for key, value in values.items():
            if isinstance(value, bool):
                text = str(value).lower()
            elif isinstance(value, str):
                text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
            elif isinstance(value, (list, tuple)):
                text = "[" + ", ".join(str(v) for v in value) + "]"
            else:
                text = repr(value)
            lines.append(f"{key} = {text}")
        lines.append("")
    return "\n".join(lines)
