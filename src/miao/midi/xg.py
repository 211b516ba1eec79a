"""Yamaha's XG: what its parameter changes and bulk dumps set, by the tables of the XG specification.

`43 1n 4C`, an address of three bytes, data; a dump is `43 0n 4C`, two bytes of count, address, data, a checksum. Both
write as many bytes as they hold, to addresses that follow each other; what comes out are the settings of
`exclusive.settings`. What XG System On sets is no request: of what is not played a line is told only where a value
departs from it.
"""

from collections.abc import Iterator

from miao.midi.effects import XG_CHORUSES, XG_REVERBS, PartTable, Setting, master_tuning
from miao.midi.general_midi import CHOKES

_PART = {
    0x01: "bank msb", 0x02: "bank lsb", 0x03: "program", 0x05: "poly", 0x07: "drums", 0x08: "key shift",
    0x0B: "volume", 0x0E: "pan", 0x12: "chorus", 0x13: "reverb", 0x18: "brightness", 0x1A: "attack", 0x1B: "decay",
    0x1C: "release", 0x23: "bend range", 0x67: "portamento", 0x68: "portamento time",
}  # fmt: skip
_PART_TOLD = {  # by address: the value that changes nothing, and what another one would do
    0x0C: (64, "how velocity counts"), 0x0D: (64, "how velocity counts"),
    0x0F: (0, "only some of the keys"), 0x10: (127, "only some of the keys"),
    0x11: (127, "the level of its dry sound"), 0x14: (0, "the send to a variation effect"),
    0x15: (64, "vibrato rate"), 0x16: (64, "vibrato depth"), 0x17: (64, "vibrato delay"), 0x19: (64, "resonance"),
    0x1D: (64, "the modulation wheel for pitch"), 0x1E: (64, "the modulation wheel for brightness"),
    0x1F: (64, "the modulation wheel for loudness"), 0x21: (0, "the modulation wheel for a filter's depth"),
    0x22: (0, "the modulation wheel for tremolo depth"), 0x24: (64, "the pitch wheel for brightness"),
    0x25: (64, "the pitch wheel for loudness"), 0x26: (0, "the pitch wheel for vibrato depth"),
    0x27: (0, "the pitch wheel for a filter's depth"), 0x28: (0, "the pitch wheel for tremolo depth"),
    0x4D: (64, "channel pressure for pitch"), 0x4E: (64, "channel pressure for brightness"),
    0x4F: (64, "channel pressure for loudness"), 0x51: (0, "channel pressure for a filter's depth"),
    0x52: (0, "channel pressure for tremolo depth"), 0x53: (64, "key pressure for pitch"),
    0x54: (64, "key pressure for brightness"), 0x55: (64, "key pressure for loudness"),
    0x5A: (64, "CC 16 for pitch"), 0x5B: (64, "CC 16 for brightness"), 0x5C: (64, "CC 16 for loudness"),
    0x61: (64, "CC 17 for pitch"), 0x62: (64, "CC 17 for brightness"), 0x63: (64, "CC 17 for loudness"),
    0x69: (64, "a pitch that moves at the start"), 0x6A: (64, "a pitch that moves at the start"),
    0x6B: (64, "a pitch that moves at the end"), 0x6C: (64, "a pitch that moves at the end"),
    0x6D: (1, "only some of the velocities"), 0x6E: (127, "only some of the velocities"),
    0x72: (64, "bass of the equalizer"), 0x73: (64, "treble of the equalizer"),
}  # fmt: skip
# 08 nn 30 to 40: what a part listens to; 0 is off
_SWITCHES = (
    "the pitch wheel", "channel pressure", "program changes", "controllers", "key pressure", "notes", "RPN", "NRPN",
    "modulation", "volume", "pan", "expression", "the sustain pedal", "portamento", "the sostenuto pedal",
    "the soft pedal", "bank select",
)  # fmt: skip
_NOT_PLAYED = PartTable("XG", _PART_TOLD, 0x04, 0x30, _SWITCHES)
_DRUM = {0x00: "tuning", 0x01: "cents", 0x02: "level", 0x04: "pan", 0x05: "send", 0x0A: "is on"}
_DRUM_TOLD = {
    0x07: (127, "variation send"), 0x0B: (64, "filter"), 0x0C: (64, "resonance"), 0x0D: (64, "attack time"),
    0x0E: (64, "decay time"), 0x0F: (64, "decay time"),
}  # fmt: skip
# of Hall 1 and Chorus 1, which XG System On sets; files that send them ask for nothing else
_REVERB_VALUES = (18, 10, 8, 13, 49, 0, 0, 0, 0, 64)
_CHORUS_VALUES = (6, 54, 77, 106, 0, 28, 64, 46, 64, 64)
_N_DRUM_SETS = 2


def xg_settings(message: bytes) -> Iterator[Setting]:
    """What a message that begins with `43 1n 4C` or `43 0n 4C` sets."""
    if message[1] & 0xF0 == 0x10:
        yield from _written(message[3], message[4], message[5], message[6:])
        return
    n_bytes, data = 128 * message[3] + message[4], message[8:-1]
    if sum(message[3:]) & 0x7F or len(data) != n_bytes:
        yield ("told", "XG: a dump with a wrong checksum, passed over as an XG module does")
    else:
        yield from _written(message[5], message[6], message[7], data)


def _written(high: int, middle: int, low: int, data: bytes) -> Iterator[Setting]:
    """What data written from an address on sets."""
    if (high, middle, low) == (0, 0, 0) and len(data) >= 4:
        yield master_tuning(data)
        data, low = data[4:], 4
    elif high == 0x08 and low == 0x09 and len(data) >= 2:
        tenths_of_hz = ((data[0] & 15) << 4 | data[1] & 15) - 128
        if tenths_of_hz:
            yield ("told", f"XG: part {middle + 1} out of tune by {tenths_of_hz / 10:+g} Hz")
        data, low = data[2:], 0x0B
    elif (high, middle) == (0x02, 0x01) and low in (0x00, 0x20, 0x40) and data:
        yield from _effect_type(low, data[0], data[1] if len(data) > 1 else 0)
        data, low = data[2:], low + 2
    for n, value in enumerate(data):
        yield from _byte(high, middle, low + n, value)


def _byte(high: int, middle: int, low: int, value: int) -> Iterator[Setting]:
    """One byte at one address, of those that stand for themselves."""
    if (high, middle) == (0, 0):
        if low == 0x04:
            yield ("master", "volume", value / 127)
        elif low == 0x06:
            yield ("master", "transposition", value - 64)
        elif low in (0x7E, 0x7F):
            yield ("reset", "xg")
        elif low == 0x7D:
            yield ("reset drums", value)
    elif high == 0x02:
        yield from _effect(middle, low, value)
    elif high == 0x03:
        if (low == 0 and value) or (low == 0x0C and value < 127):
            yield ("told", "XG: an insertion effect")
    elif high == 0x08 and middle < 16:
        yield from _part(middle, low, value)
    elif high == 0x08 or high == 0x0A:
        yield ("told", "XG: a part beyond the sixteenth")
    elif high & 0xF0 == 0x30:
        yield from _drum(high & 15, low, middle, value)


def _effect_type(low: int, msb: int, lsb: int) -> Iterator[Setting]:
    names = {0x00: XG_REVERBS, 0x20: XG_CHORUSES}.get(low, {}).get(msb)
    if names:
        lsb = 1 if lsb in (6, 7) and msb == 1 else lsb  # the M and L halls of later modules
        yield ("room" if low == 0 else "chorus", names[min(lsb, len(names) - 1)])
    elif low == 0x40:
        if (msb, lsb) not in ((0, 0), (5, 0)):  # none, and the delay that waits for a part to send to it
            yield ("told", "XG: another type of variation effect")
    elif msb:
        yield ("told", "XG: another type of {}".format("reverb" if low == 0x00 else "chorus"))


def _effect(middle: int, low: int, value: int) -> Iterator[Setting]:
    """What else the effects have: a variation is heard only where a part sends to it, or is put through it."""
    if middle == 0x40:
        if (low == 0 and value) or (low in (0x01, 0x05, 0x09, 0x0D, 0x11) and value != 64):
            yield ("told", "XG: the equalizer")
    elif middle == 0x01:
        reverb = dict(enumerate(_REVERB_VALUES, 0x02)) | {0x0C: 64, 0x0D: 64}
        chorus = dict(enumerate(_CHORUS_VALUES, 0x22)) | {0x2C: 64, 0x2D: 64, 0x2E: 0}
        if value != reverb.get(low, value):
            yield ("told", "XG: level, time or tone of the reverb")
        elif value != chorus.get(low, value):
            yield ("told", "XG: level, rate, depth, feedback or sends of the chorus")
        elif low == 0x5B and value < 127:
            yield ("told", f"XG: part {value + 1} through a variation effect")


def _part(channel: int, low: int, value: int) -> Iterator[Setting]:
    if low in _PART:
        name = _PART[low]
        value = value - 64 if name in ("key shift", "bend range") else value or 64 if name == "pan" else value
        yield ("part", channel, name, value)
    elif low == 0x20:
        yield ("part", channel, "vibrato range", value * 6 / 127)
    elif 0x41 <= low <= 0x4C:
        yield ("part", channel, "tone", (low - 0x41, float(value - 64)))
    else:
        yield from _NOT_PLAYED.told_of(channel, low, value)


def _drum(kit_map: int, low: int, key: int, value: int) -> Iterator[Setting]:
    """3n rr: changes to one key of a drum set-up."""
    if kit_map >= _N_DRUM_SETS:
        yield ("told", f"XG: drum set-up {kit_map + 1}")
    elif low in _DRUM:
        yield ("drum", kit_map, key, _DRUM[low], value - 64 if low < 2 else value)
    elif low == 0x03:
        if value and key not in CHOKES:  # those start in their groups
            yield ("told", f"XG: drum key {key} in a group of keys that cut each other")
    elif low == 0x06 and 0 < value < 127:
        yield ("told", f"XG: drum key {key}, chorus send")
    elif low == 0x09 and value:
        yield ("told", f"XG: drum key {key} ends with its note-off")
    elif low in _DRUM_TOLD:
        rest, what = _DRUM_TOLD[low]
        if value != rest:
            yield ("told", f"XG: drum key {key}, {what}")
