"""SFZ files: which samples an instrument is made of, at which key, velocity and level.

Read are the headers <control>, <global>, <master>, <group> and <region>, `#include` and `#define`, and of the opcodes
`sample`, `key`, `pitch_keycenter`, `lokey`, `hikey`, `lovel`, `hivel`, `volume`, `trigger`, `default_path`,
`note_offset` and `octave_offset`. Names of opcodes may be in capitals, paths may have backslashes, other capitals and
another format (`.flac` where an `.ogg` lies) than the files, as they do where people wrote them on other systems. A
region that sounds at the start of a note counts (`trigger=attack` or `first`); releases and slurs do not.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from miao.datasets.samples import PLAIN_VELOCITY, SOUND_SUFFIXES, Sample, named_pitch
from miao.errors import DataError
from miao.files import reason

LEVELS = ("control", "global", "master", "group", "region")  # each has what those before it say
_STARTS = ("attack", "first")
_DEEPEST = 16  # files that include each other
_LARGEST_GAIN_DB = 60.0


def sfz_samples(path: Path) -> tuple[list[Sample], list[str]]:
    """The samples of an .sfz file, each at its key centre and in the middle of its velocities, and a line for each that
    is left out.

    Raises: DataError if it, or what it includes, cannot be read, or names no sample that is there.
    """
    samples, left_out, missing = {}, [], []
    for region in sfz_regions(sfz_text(path)):
        name = region.get("sample", "")
        if not name or name.startswith("*") or region.get("trigger", "attack") not in _STARTS:
            continue
        pitch = _pitch(region)
        low, high = (_number(region, opcode, plain) for opcode, plain in (("lovel", 0), ("hivel", 127)))
        velocity = PLAIN_VELOCITY if (low <= 1 and high >= 127) else int(low + high) // 2
        place = _found(path.parent, region.get("default_path", "") + name)
        gain = min(max(_number(region, "volume", 0), -_LARGEST_GAIN_DB), _LARGEST_GAIN_DB)
        if pitch is None:
            left_out.append(f"{name}: the region says no key")
        elif place is None:
            missing.append(name)
        else:
            samples[place, pitch, velocity] = Sample(place, pitch, max(velocity, 1), gain)
    left_out += [f"{name}: not there" for name in missing]
    if not samples:
        raise DataError(f"{path}: names no samples that are there" + (f"; {missing[0]} is missing" if missing else ""))
    return list(samples.values()), left_out


def sfz_text(path: Path) -> str:
    """The text of an .sfz file without comments, what it includes and defines put in. Raises: DataError."""
    return "".join(_lines(path, path.parent, {}, 0))


def sfz_regions(text: str) -> Iterator[dict[str, str]]:
    """The opcodes of each <region>, with those of the headers around it."""
    levels: dict[str, dict[str, str]] = {}
    for header, body in re.findall(r"<(\w+)>([^<]*)", text):
        header = header.lower()
        if header not in LEVELS:
            continue
        # a value goes on, blanks and all, until the next opcode or the end of the line
        opcodes = re.findall(r"(\w+)=(.*?)(?=\s+\w+=|\s*$)", body, flags=re.MULTILINE)
        for inner in LEVELS[LEVELS.index(header) + 1 :]:
            levels.pop(inner, None)
        levels[header] = {key.lower(): value.strip() for key, value in opcodes}
        if header == "region":
            yield {key: value for level in LEVELS for key, value in levels.get(level, {}).items()}


def _lines(path: Path, root: Path, defined: dict[str, str], depth: int) -> Iterator[str]:
    """Lines with what stands behind their names put in; a name holds from where it is defined on."""
    if depth > _DEEPEST:
        raise DataError(f"{path}: is included over and over")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason(error)}") from None
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    for line in text.splitlines(keepends=True):
        line = re.sub(r"//.*", "", line)
        definition = re.match(r"\s*#define\s+(\$\w+)\s+(\S*)", line)
        if definition:
            defined[definition[1]] = _put_in(definition[2], defined)
            line = line[definition.end() :]
        line = _put_in(line, defined)
        include = re.match(r'\s*#include\s+"([^"]+)"', line)
        if include:
            place = _found(root, include[1]) or _found(path.parent, include[1])
            if place is None:
                raise DataError(f"{path}: includes {include[1]}, which is not there")
            yield from _lines(place, root, defined, depth + 1)
            yield "\n"
            line = line[include.end() :]
        yield line


def _put_in(text: str, defined: dict[str, str]) -> str:
    for name in sorted(defined, key=len, reverse=True):  # $KEY2 is not $KEY and a 2
        text = text.replace(name, defined[name])
    return text


def _found(folder: Path, name: str) -> Path | None:
    """A file by the path that an .sfz gives, whichever way its strokes lean; by any capitals if there is none such,
    and sounds of any format if there is none such either."""
    place = folder / name.strip().replace("\\", "/")
    if place.is_file():
        return place
    at = folder
    for part in name.strip().replace("\\", "/").split("/"):
        if part in ("", ".", ".."):
            at = at / part
            continue
        if not at.is_dir():
            return None
        entries, same_but = sorted(at.iterdir()), Path(part.lower())
        same = [entry for entry in entries if entry.name.lower() == same_but.name]
        if not same and same_but.suffix in SOUND_SUFFIXES:  # a set that was packed anew in another format
            same = [e for e in entries if e.stem.lower() == same_but.stem and e.suffix.lower() in SOUND_SUFFIXES]
        if not same:
            return None
        at = same[0]
    return at if at.is_file() else None


def _pitch(region: dict[str, str]) -> int | None:
    for opcode in ("pitch_keycenter", "key", "lokey"):
        text = region.get(opcode, "")
        if text == "sample":
            return named_pitch(Path(region["sample"].replace("\\", "/")).stem)
        pitch = int(text) if re.fullmatch(r"-?\d+", text) else named_pitch(text)
        if pitch is not None:
            return pitch + int(_number(region, "note_offset", 0) + 12 * _number(region, "octave_offset", 0))
    return None


def _number(region: dict[str, str], opcode: str, plain: float) -> float:
    try:
        return float(region.get(opcode, plain))
    except ValueError:
        return plain
