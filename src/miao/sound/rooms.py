"""The rooms there are: those in the package and a user's own, as small files of numbers or as impulse responses.

A file of numbers is TOML: ``[about]`` (format, name, origin), ``[room]`` (the fields of `DrawnRoom`). Whatever else is
given is read as the recording of an impulse response.
"""

import os
import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from miao.arrays import Floats
from miao.config import from_table, to_toml
from miao.errors import ConfigError, MiaoError
from miao.files import check_target, make_folder, write_text
from miao.sound.audio import Audio, read_audio
from miao.sound.decay import DIRECT_SECONDS, measure_octaves, onset_of
from miao.sound.room import BAND_HZ, LONGEST_SECONDS, DrawnRoom, RecordedRoom

FORMAT = "miao room 1"
SUFFIX = ".toml"
NO_ROOM = "none"
T60_SECONDS = (0.05, 20.0)
WET = (0.0, 10.0)
_LARGEST_BYTES = 2048
_SHIPPED = Path(__file__).parents[1] / "rooms"
_RANGES = {"t60_seconds": T60_SECONDS, "predelay_seconds": (0, 0.5), "build_up_seconds": (0.001, 1),
           "reflections": (0, 0.9), "width": (0, 1), "gain_db": (-60, 40), "seed": (0, 2**32)}  # fmt: skip

AnyRoom = DrawnRoom | RecordedRoom


def find_room(name: str | Path, folder: Path | None = None) -> AnyRoom | None:
    """A room by its name, or from a file: .toml as numbers, else an impulse response. None for "none".

    Raises: ConfigError if there is none of that name or its numbers make no sense; AudioError or MiaoError if a sound
    cannot be read or holds no room.
    """
    if str(name) == NO_ROOM:
        return None
    known = room_paths(folder)
    path = known.get(str(name), Path(name))
    if str(name) not in known and not path.suffix:
        raise ConfigError(f'no room "{name}"; there are {", ".join([*known, NO_ROOM])}, or give a file')
    return read_room(path)[0] if path.suffix == SUFFIX else response_room(read_audio(path, LONGEST_SECONDS), str(path))


def echo(sample_rate: int) -> RecordedRoom:
    """No room: what is sent comes back at once and as it is. So a rendering in it, less a dry one, is what a song sends
    to its room."""
    return RecordedRoom(np.eye(2, dtype=np.float32)[:, :, None], sample_rate, T60_SECONDS[0])


def changed(room: AnyRoom | None, t60_seconds: float | None = None, wet: float = 1.0) -> AnyRoom | None:
    """The room with another reverberation time at 1 kHz and louder or softer by a factor; None where nothing is left.

    Raises: ConfigError if either is out of range.
    """
    for what, value, (low, high) in (("t60", t60_seconds or 1.0, T60_SECONDS), ("wet", wet, WET)):
        if not low <= value <= high:
            raise ConfigError(f"{what} is {value:g}; it goes from {low:g} to {high:g}")
    if room is None or wet == 0:
        return None
    room = room if t60_seconds is None else room.with_t60(t60_seconds)
    return room if wet == 1 else replace(room, gain_db=room.gain_db + 20 * float(np.log10(wet)))


def room_paths(folder: Path | None = None) -> dict[str, Path]:
    """The files of all rooms by their names: those in the package, then those in a folder (by default the user's own),
    which come first where names are the same."""
    paths: dict[str, Path] = {}
    for place in (_SHIPPED, rooms_folder() if folder is None else folder):
        paths |= {path.stem: path for path in sorted(place.glob(f"*{SUFFIX}"))}
    return paths


def rooms_folder() -> Path:
    """Where a user's own rooms are: $XDG_DATA_HOME or the platform's place for such files, miao/rooms in it."""
    home = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".local" / "share") / "miao" / "rooms"


def read_room(path: Path) -> tuple[DrawnRoom, dict[str, str]]:
    """A file of numbers: the room, and what is said about it. Raises: ConfigError."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable room ({str(error).lower()})") from None
    about = table.get("about", {})
    if about.get("format") != FORMAT:
        raise ConfigError(f'{path}: not a room; it says "{about.get("format", "")}" and not "{FORMAT}"')
    room = from_table(DrawnRoom, table.get("room", {}), f"{path}: ")
    check_room(room, str(path))
    return room, {key: str(value) for key, value in about.items()}


def check_room(room: DrawnRoom, where: str) -> None:
    """Raises: ConfigError if a number of a room is out of range."""
    for name, (low, high) in _RANGES.items():
        value = getattr(room, name)
        if not low <= value <= high:
            raise ConfigError(f"{where}: {name} is {value:g}; it goes from {low:g} to {high:g}")
    for name, low, high in (("decays", 0.02, 10), ("levels_db", -60, 60), ("early_db", -30, 30)):
        values = getattr(room, name)
        if len(values) != len(BAND_HZ) or not all(low <= value <= high for value in values):
            raise ConfigError(f"{where}: {name} are {len(BAND_HZ)} numbers from {low:g} to {high:g}, an octave each")


def save_room(path: Path, room: DrawnRoom, about: dict[str, str], *, force: bool = False) -> None:
    """Write a room's numbers. Raises: ConfigError if it cannot be."""
    rounded = {key: _rounded(value) for key, value in asdict(room).items()}
    text = to_toml({"about": {"format": FORMAT} | about, "room": rounded})
    if len(text.encode()) > _LARGEST_BYTES:
        raise ConfigError(f"{path}: what is said about the room is too long; a room's file has {_LARGEST_BYTES} bytes")
    make_folder(path.parent, ConfigError)
    check_target(path, ConfigError, force=force)
    write_text(path, text, ConfigError)


def check_room_name(name: str) -> str:
    """The name, if it can be that of a room: letters, digits, - and _. Raises: ConfigError."""
    if not re.fullmatch(r"[\w-]+", name) or name == NO_ROOM:
        raise ConfigError(f'a room cannot be called "{name}"; use letters, digits, - and _')
    return name


def response_room(audio: Audio, where: str = "the response") -> RecordedRoom:
    """The room of an impulse response that was recorded: what comes after the direct sound, counted from it.

    One channel is what either ear hears of the speaker on its side; two are the two ears, for both speakers; four are
    left speaker to left and right ear, then the right one. Raises: MiaoError if it is silent or holds no room.
    """
    samples = audio.samples
    if samples.shape[0] not in (1, 2, 4):
        raise MiaoError(f"{where}: has {samples.shape[0]} channels; an impulse response has 1, 2 or 4")
    onset = onset_of(samples, audio.sample_rate, where)
    kept = samples[:, onset:].copy()
    direct = round(DIRECT_SECONDS * audio.sample_rate)
    kept[:, :direct] = 0
    rise = kept[:, direct : 2 * direct]
    rise *= np.linspace(0, 1, rise.shape[1], dtype=np.float32)
    octaves = measure_octaves(samples[:, onset:], audio.sample_rate)
    t60 = octaves[list(BAND_HZ).index(1000)].t60_seconds
    if not np.isfinite(t60) or not kept.any():
        raise MiaoError(f"{where}: no decay is heard after its loudest moment; an impulse response has one")
    return RecordedRoom(_spread(kept), audio.sample_rate, t60)


def _spread(samples: Floats) -> Floats:
    """Channels of a recording as responses [2 ears, 2 speakers, S]."""
    if len(samples) == 4:
        return np.ascontiguousarray(samples.reshape(2, 2, -1).transpose(1, 0, 2))
    if len(samples) == 2:
        return np.stack([samples, samples], axis=1)
    nothing = np.zeros_like(samples[0])
    return np.stack([np.stack([samples[0], nothing]), np.stack([nothing, samples[0]])])


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_rounded(v) for v in value)
    return float(f"{value:.4g}") if isinstance(value, float) else value
