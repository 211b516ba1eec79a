"""What GS and XG share: the types of reverb and chorus that they and GM2 name and which of ours plays each, tuning, and
what a part may be asked that is not played."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

REVERB_TYPES = ("small room", "medium room", "large room", "medium hall", "large hall", "plate")
CHORUS_TYPES = ("chorus 1", "chorus 2", "chorus 3", "chorus 4", "feedback chorus", "flanger")
GS_REVERBS = ("small room", "medium room", "large room", "medium hall", "large hall", "plate", "delay", "panning delay")
GM2_REVERBS = dict(enumerate(REVERB_TYPES[:5])) | {8: "plate"}
# XG's by MSB (the LSB only tells sizes apart where it is given here)
XG_REVERBS = {
    1: ("large hall", "medium hall"), 2: ("small room", "medium room", "large room"), 3: ("medium hall", "large hall"),
    4: ("plate",), 16: ("small room",), 17: ("large hall",), 18: ("large hall",), 19: ("large room",),
}  # fmt: skip
XG_CHORUSES = {
    65: ("chorus 1", "chorus 2", "chorus 3", "chorus 4"), 66: ("chorus 3", "chorus 4", "chorus 3", "chorus 4"),
    67: ("flanger",),
}  # fmt: skip

Setting = tuple[Any, ...]  # a word and its values: see `exclusive.settings`


class PartTable(NamedTuple):
    """What a part of GS or XG has at its addresses and is not played."""

    standard: str
    told: Mapping[int, tuple[int, str]]  # by address: the value that changes nothing, and what another one would do
    channel_at: int  # address of the channel that it listens to
    switches_at: int  # address of the first of the switches of what it listens to,
    switches: Sequence[str]  # by what they switch; 0 is off

    def told_of(self, channel: int, low: int, value: int) -> Iterator[Setting]:
        """What a value at an address would do, if it would do anything."""
        part = f"{self.standard}: part {channel + 1}"
        if low in self.told:
            rest, what = self.told[low]
            if value != rest:
                yield ("told", f"{part}, {what}")
        elif low == self.channel_at:
            if value != channel:
                yield ("told", f"{part} on another channel" if value < 16 else f"{part} off")
        elif 0 <= low - self.switches_at < len(self.switches) and not value:
            yield ("told", f"{part} deaf to {self.switches[low - self.switches_at]}")


def master_tuning(data: bytes) -> Setting:
    """Four nibbles, tenths of cents, of GS and XG alike."""
    a, b, c, d = data[:4]
    return ("master", "tuning", ((a << 12 | b << 8 | c << 4 | d) - 1024) / 1000)
