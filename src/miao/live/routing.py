"""Where a keyboard's messages go: transposition, velocity curve, splits and layers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from miao.errors import ConfigError
from miao.midi.events import KEY_PRESSURE, NOTE_OFF, NOTE_ON, PROGRAM, SYSEX

CURVES = {"soft": 0.6, "linear": 1.0, "hard": 1.6}
_TONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SIGNS = {"": 0, "#": 1, "B": -1}


@dataclass(frozen=True)
class Zone:
    """A stretch of keys that plays a channel (from 0)."""

    channel: int
    lowest: int = 0
    highest: int = 127


@dataclass(frozen=True)
class Routing:
    """What is done to messages before they are played.

    Without zones messages keep their channel. With zones notes go to the channels of those that they lie in, and
    whatever else is played goes to all of them; a program change then chooses nothing, as the zones have theirs.
    """

    transpose: int = 0  # semitones; not of drums
    curve: float = 1.0  # exponent of the velocity: below 1 a light touch is louder
    velocity: int | None = None  # the same for all notes
    zones: tuple[Zone, ...] = ()

    def route(self, message: bytes) -> Iterator[bytes]:
        """The messages that one becomes."""
        status = message[0]
        kind, channel = status & 0xF0, status & 0x0F
        if status >= SYSEX or len(message) < 2:
            yield message
            return
        is_key = kind in (NOTE_OFF, NOTE_ON, KEY_PRESSURE) and len(message) == 3
        if is_key:
            for zone in self.zones or (Zone(channel),):
                if zone.lowest <= message[1] <= zone.highest:
                    key = message[1] + (self.transpose if zone.channel != 9 else 0)
                    value = self._velocity(message[2]) if kind == NOTE_ON else message[2]
                    if 0 <= key <= 127:
                        yield bytes([kind | zone.channel, key, value])
        elif not self.zones:
            yield message
        elif kind != PROGRAM:
            for target in dict.fromkeys(zone.channel for zone in self.zones):
                yield bytes([kind | target, *message[1:]])

    def _velocity(self, velocity: int) -> int:
        if velocity == 0:
            return 0
        if self.velocity is not None:
            return self.velocity
        curved: float = 127 * (velocity / 127) ** self.curve
        return max(1, min(127, round(curved)))


def key_number(text: str) -> int:
    """60 of "60" or "C4". Raises: ConfigError."""
    said = re.fullmatch(r"(\d{1,3})|([A-G])([#B]?)(-?\d)", text.strip().upper(), re.ASCII)
    if said:
        number, letter, sign, octave = said.groups()
        key = int(number) if number else _TONES[letter] + _SIGNS[sign] + 12 * (int(octave) + 1)
        if 0 <= key <= 127:
            return key
    raise ConfigError(f"{text} is no key; say 60 or C4")


def zones_of(split: int | None, has_layer: bool) -> tuple[Zone, ...]:
    """Zones of a keyboard: channel 1, channel 2 left of a split key, channel 3 everywhere beside them."""
    zones = [Zone(0)] if split is None else [Zone(0, lowest=split), Zone(1, highest=split - 1)]
    if has_layer:
        zones.append(Zone(2))
    return tuple(zones) if len(zones) > 1 else ()
