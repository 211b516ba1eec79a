"""Roland's GS: what its data-set messages set, by the address tables of the SC-55, SC-88 and SC-88Pro.

`41 dev 42 12`, an address of three bytes, data, a checksum. A message writes as many bytes as it holds, to addresses
that follow each other; what comes out are the settings of `exclusive.settings`. What a module starts with is no
request: of what is not played a line is told only where a value departs from it.
"""

from collections.abc import Iterator

from miao.midi.effects import CHORUS_TYPES, GS_REVERBS, PartTable, Setting, master_tuning
from miao.midi.general_midi import CHOKES

_PART = {
    0x13: "poly", 0x15: "drums", 0x16: "key shift", 0x19: "volume", 0x1C: "pan", 0x21: "chorus", 0x22: "reverb",
    0x32: "brightness", 0x34: "attack", 0x35: "decay", 0x36: "release",
}  # fmt: skip
_PART_TOLD = {  # by address: the value that changes nothing, and what another one would do
    0x1A: (64, "how velocity counts"), 0x1B: (64, "how velocity counts"),
    0x1D: (0, "only some of the keys"), 0x1E: (127, "only some of the keys"), 0x2C: (0, "the send to a delay"),
    0x30: (64, "vibrato rate"), 0x31: (64, "vibrato depth"), 0x33: (64, "resonance"), 0x37: (64, "vibrato delay"),
}  # fmt: skip
# 40 1x 03 to 12: what a part listens to; 0 is off
_SWITCHES = (
    "the pitch wheel", "channel pressure", "program changes", "controllers", "key pressure", "notes", "RPN", "NRPN",
    "modulation", "volume", "pan", "expression", "the sustain pedal", "portamento", "the sostenuto pedal",
    "the soft pedal",
)  # fmt: skip
_NOT_PLAYED = PartTable("GS", _PART_TOLD, 0x02, 0x03, _SWITCHES)
_CONTROLS = {0x00: "the modulation wheel", 0x10: "the pitch wheel", 0x20: "channel pressure", 0x30: "key pressure",
             0x40: "CC 16", 0x50: "CC 17"}  # fmt: skip
_CHANGES = (
    "pitch", "brightness", "loudness", "vibrato rate", "vibrato depth", "a filter's depth", "tremolo depth",
    "a second vibrato's rate", "a second vibrato", "a second filter's depth", "a second tremolo",
)  # fmt: skip
# of the reverb and the chorus, the values that their eight types themselves set; others are a musician's
_REVERB_VALUES = {
    0x32: (3, 4, 0), 0x33: (64,), 0x34: (80, 56, 64, 72, 88, 32), 0x35: (0, 40, 32), 0x37: (0,),
}  # fmt: skip
_CHORUS_VALUES = {
    0x39: (0,), 0x3A: (64,), 0x3B: (0, 5, 8, 16, 64, 112, 80), 0x3C: (112, 80, 64, 127), 0x3D: (3, 9, 2, 1, 0),
    0x3E: (5, 19, 16, 24, 127), 0x3F: (0,), 0x40: (0,),
}  # fmt: skip
_DRUM = {0x2: "level", 0x4: "pan", 0x5: "send"}


def gs_channel(block: int) -> int:
    """The channel (0 to 15) of a GS block: they are numbered 10, 1 to 9, 11 to 16."""
    return 9 if block == 0 else block - 1 if block < 10 else block


def gs_settings(message: bytes) -> Iterator[Setting]:
    """What a message that begins with `41 dev 42 12` sets."""
    address, data, checksum = message[4:7], message[7:-1], message[-1]
    if (sum(message[4:-1]) + checksum) & 0x7F:
        yield ("told", "GS: a message with a wrong checksum, passed over as a GS module does")
    else:
        yield from _written(address[0], address[1], address[2], data)


def _written(high: int, middle: int, low: int, data: bytes) -> Iterator[Setting]:
    """What data written from an address on sets."""
    if (high, middle, low) in ((0x40, 0, 0x7F), (0, 0, 0x7F)) and data:
        if data[0] in (0, 1):
            yield ("reset", "gs")
        elif high == 0x40:
            yield ("reset", "gm")  # 7F: GS off
        return
    n_taken = 0
    if (high, middle, low) == (0x40, 0, 0) and len(data) >= 4:
        yield master_tuning(data)
        n_taken = 4
    elif high == 0x40 and middle & 0xF0 == 0x10:
        channel = gs_channel(middle & 15)
        if low == 0 and len(data) >= 2:
            yield ("part", channel, "bank", 128 * data[0])
            yield ("part", channel, "program", data[1])
            n_taken = 2
        elif low == 0x17 and len(data) >= 2:
            tenths_of_hz = ((data[0] & 15) << 4 | data[1] & 15) - 128
            if tenths_of_hz:
                yield ("told", f"GS: part {channel + 1} out of tune by {tenths_of_hz / 10:+g} Hz")
            n_taken = 2
        elif low == 0x2A and len(data) >= 2:
            yield ("part", channel, "fine cents", (128 * data[0] + data[1] - 8192) * 100 / 8192)
            n_taken = 2
        elif low == 0x40 and len(data) >= 12:
            yield ("scale", (channel,), tuple(float(value - 64) for value in data[:12]), False)
            n_taken = 12
    elif high in (0x48, 0x49):
        yield ("told", "GS: a dump of many settings")
        return
    if n_taken:
        if len(data) > n_taken:
            yield from _written(high, middle, low + n_taken, data[n_taken:])
        return
    for n, value in enumerate(data):
        yield from _byte(high, middle, low + n, value)


def _byte(high: int, middle: int, low: int, value: int) -> Iterator[Setting]:
    """One byte at one address, of those that stand for themselves."""
    if high == 0x41:
        yield from _drum(middle >> 4, middle & 15, low, value)
    elif high != 0x40:
        return
    elif middle == 0x00:
        if low == 0x04:
            yield ("master", "volume", value / 127)
        elif low == 0x05:
            yield ("master", "transposition", value - 64)
        elif low == 0x06 and value != 64:
            yield ("told", "GS: master pan")
    elif middle == 0x01:
        yield from _effect(low, value)
    elif middle == 0x02:
        if low in (1, 3) and value != 64:
            yield ("told", "GS: the equalizer")
    elif middle == 0x03:
        if low < 2 and value:
            yield ("told", "GS: an insertion effect")
    elif middle & 0xF0 == 0x10:
        yield from _part(gs_channel(middle & 15), low, value)
    elif middle & 0xF0 == 0x20:
        yield from _controlled(gs_channel(middle & 15), low, value)
    elif middle & 0xF0 == 0x40 and low == 0x22 and value:
        yield ("told", f"GS: part {gs_channel(middle & 15) + 1} through an insertion effect")


def _effect(low: int, value: int) -> Iterator[Setting]:
    """The reverb and the chorus; a delay is heard only where a part sends to it."""
    if low in (0x30, 0x31) and value < len(GS_REVERBS):  # the type, or its character alone
        yield ("room", GS_REVERBS[value]) if value < 6 else ("told", f"GS: the reverb as a {GS_REVERBS[value]}")
    elif low == 0x38 and value < 8:
        yield ("chorus", CHORUS_TYPES[value]) if value < 6 else ("told", "GS: the chorus as a short delay")
    elif value not in _REVERB_VALUES.get(low, (value,)):
        yield ("told", "GS: level, time or tone of the reverb")
    elif value not in _CHORUS_VALUES.get(low, (value,)):
        yield ("told", "GS: level, rate, depth, feedback or sends of the chorus")


def _part(channel: int, low: int, value: int) -> Iterator[Setting]:
    if low in _PART:
        name = _PART[low]
        yield ("part", channel, name, value - 64 if name == "key shift" else value or 64 if name == "pan" else value)
    elif 0x40 <= low <= 0x4B:  # one tone of a scale; the whole scale is written from 40 on
        yield ("part", channel, "tone", (low - 0x40, float(value - 64)))
    else:
        yield from _NOT_PLAYED.told_of(channel, low, value)


def _controlled(channel: int, low: int, value: int) -> Iterator[Setting]:
    """40 2x: what wheels, pressures and two controllers change."""
    if low == 0x10:
        yield ("part", channel, "bend range", value - 64)
    elif low == 0x04:
        yield ("part", channel, "vibrato range", value * 6 / 127)
    elif low & 0x70 in _CONTROLS and low & 15 < len(_CHANGES):
        rest = 64 if low & 15 in (0, 1, 2, 3, 7) else 0
        if value != rest:
            yield ("told", f"GS: part {channel + 1}, {_CONTROLS[low & 0x70]} for {_CHANGES[low & 15]}")


def _drum(kit_map: int, what: int, key: int, value: int) -> Iterator[Setting]:
    """41 mX: changes to one key of the first or the second drum set."""
    if kit_map > 1:
        yield ("told", "GS: a third drum set")
    elif what in _DRUM:
        yield ("drum", kit_map, key, _DRUM[what], value)
    elif what == 8:
        yield ("drum", kit_map, key, "is on", value)
    elif what == 1:
        yield ("told", f"GS: drum key {key} at another pitch")
    elif what == 3:
        if value and key not in CHOKES:  # those start in their groups
            yield ("told", f"GS: drum key {key} in a group of keys that cut each other")
    elif what == 6 and 0 < value < 127:
        yield ("told", f"GS: drum key {key}, chorus send")
    elif what == 7 and value:
        yield ("told", f"GS: drum key {key} ends with its note-off")
    elif what == 9 and value:
        yield ("told", f"GS: drum key {key}, the send to a delay")
