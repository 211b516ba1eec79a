"""The types of reverb and chorus that GM2, GS and XG name, and which of ours plays each."""

from typing import Any

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


def master_tuning(data: bytes) -> Setting:
    """Four nibbles, tenths of cents, of GS and XG alike."""
    a, b, c, d = data[:4]
    return ("master", "tuning", ((a << 12 | b << 8 | c << 4 | d) - 1024) / 1000)
