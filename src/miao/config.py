"""Settings as TOML: presets state only what differs from the dataclass that they configure.

Words and numbers are limited where they are declared, `Literal["conv", "ffn"]` and `Annotated[float, Range(0, 1)]`, and
checked when settings are read and when they are made by hand.
"""

import math
import tomllib
from dataclasses import dataclass, fields, is_dataclass
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from miao.errors import ConfigError, MiaoError
from miao.files import reason

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """What a number may be, the bounds included."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low:g} or more" if self.high == math.inf else f"{self.low:g} to {self.high:g}"


LARGEST_SEED = 2**64 - 1
TINY = 1e-9  # the least of what has to be more than 0
Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(TINY, 10)]
Weight = Annotated[float, Range(0, 1e6)]  # what it means is up to the loss that it is the weight of


def check_number(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises: ConfigError for what is no number, or out of range."""
    if not isinstance(value, Real):
        raise ConfigError(f"the {what} is {value!r:.60}; it must be a number")
    if not low <= float(value) <= high:
        raise ConfigError(f"the {what} is {float(value):g}; it goes from {low:g} to {high:.12g}")


def check_whole(what: str, value: Any, low: int, high: int) -> None:
    """Raises: ConfigError for what is no whole number, or out of range."""
    if not isinstance(value, Integral):
        raise ConfigError(f"the {what} is {value!r:.60}; it must be a whole number from {low} to {high}")
    if not low <= int(value) <= high:
        raise ConfigError(f"the {what} is {value}; it goes from {low} to {high}")


def check_seed(seed: int) -> None:
    """Raises: ConfigError for a number by which no lots can be drawn."""
    check_whole("seed", seed, 0, LARGEST_SEED)


def check(settings: Any, group: str = "") -> None:
    """Raises: ConfigError if a field of a dataclass is not what it is declared to be: its type, word or range."""
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        if not is_dataclass(hint):
            value = getattr(settings, name)
            if not _fits(hint, value):
                shown = f'"{value}"' if isinstance(value, str) else value
                raise ConfigError(f'"{group}{"." * bool(group)}{name}" is {shown}: it must be {_wanted(hint)}')


def _fits(hint: Any, value: Any) -> bool:
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        limits = [limit for limit in arguments[1:] if isinstance(limit, Range)]
        return _fits(arguments[0], value) and all(limit.low <= value <= limit.high for limit in limits)
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if get_origin(hint) is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is ... and isinstance(value, tuple) else arguments
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, kinds, value))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _wanted(hint: Any) -> str:
    """What a field may be, in words."""
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        limits = " and ".join(str(limit) for limit in arguments[1:] if isinstance(limit, Range))
        return f"{_wanted(arguments[0])}, {limits}" if limits else _wanted(arguments[0])
    if get_origin(hint) is Literal:
        *first, last = (f'"{choice}"' for choice in arguments)
        return f"{', '.join(first)} or {last}" if first else last
    if get_origin(hint) is tuple:
        n = "" if arguments[-1] is ... else f"{len(arguments)} values, "
        return f"a list, {n}each {_wanted(arguments[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "nothing"}[hint]


def from_table(kind: type[T], table: dict[str, Any], where: str = "") -> T:
    """A dataclass from a table that may leave fields out. Raises: ConfigError for what does not fit."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # any dataclass
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
        values[key] = value
    made = kind(**values)
    check(made, where.removesuffix("."))
    return made


def preset_table(name: str) -> dict[str, Any]:
    """What a preset states, by name (see ``presets/``) or by path. Raises: ConfigError if there is no such preset."""
    folder = resources.files("miao") / "presets"
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        names = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".toml"))
        raise ConfigError(f'no preset "{name}"; there are {", ".join(names)}, or give a path to a .toml file')
    return read_toml(Path(str(path)), ConfigError)


def read_toml(path: Path, kind: type[MiaoError]) -> dict[str, Any]:
    """The table in a TOML file. Raises: a ``kind`` of error if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise kind(f"{path}: cannot be read: {reason(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise kind(f"{path}: not TOML ({error})") from None


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
            if not isinstance(place, dict):
                raise ConfigError(f'"{change}": "{group}" is not a group of settings')
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
