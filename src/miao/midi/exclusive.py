"""System-exclusive messages: what they set, in the order in which they set it.

Universal messages by MIDI 1.0 (Universal System Exclusive), MIDI Tuning (CA-020 to 022 and RP-020), General MIDI 1
and 2 (RP-003, RP-024), Global Parameter Control (CA-024) and key-based controllers (CA-023); Roland's by the tables of
the GS format (SC-55, SC-88: `41 dev 42 12 address data checksum`), Yamaha's by those of XG (`43 1n 4C address data`).
Both write as many bytes as the message holds, to addresses that follow each other.

What comes out are settings, tuples of a word and its values, which `module.Module` takes:

    ("reset", mode)                      "gm", "gm2", "gs" or "xg"; "" where only sounds and controllers go back
    ("master", name, value)              volume 0..1, tuning (semitones), transposition (semitones)
    ("part", channel, name, value)       name and value as in `channel.Channel.set_part`
    ("scale", channels, cents)           twelve offsets from C on, for a set of channels
    ("tune", bank, program, {key: cents from where the key belongs})
    ("drum", kit map, key, name, value)  level, pan and send as of 127, tuning in semitones; map 0 or 1
    ("drum key", channel, key, name, value)  the same for the drums of one channel
    ("room", name), ("chorus", name)     the types of reverb and chorus
    ("told", sentence)                   what is asked for and not done
"""

from collections.abc import Iterator

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
MAKERS = {
    0x06: "Lexicon", 0x07: "Kurzweil", 0x0F: "Ensoniq", 0x18: "E-mu", 0x3E: "Waldorf", 0x40: "Kawai", 0x41: "Roland",
    0x42: "Korg", 0x43: "Yamaha", 0x44: "Casio", 0x47: "Akai", 0x7D: "a maker's own",
}  # fmt: skip

Setting = tuple


def settings(message: bytes) -> Iterator[Setting]:
    """What a message (without the F0 and F7 around it) sets."""
    match tuple(message):
        case (0x7E | 0x7F, _, 0x08, _, *_):
            yield from _tuning(message)
        case (0x7E, _, 0x09, number, *_):
            if number in (1, 3):
                yield ("reset", "gm" if number == 1 else "gm2")
        case (0x7F, _, 0x04, *_):
            yield from _device_control(message)
        case (0x7F, _, 0x0A, 0x01, channel, key, *rest):
            yield from _key_based(channel, key, rest)
        case (0x7F, _, 0x09, kind, channel, *_):
            what = {1: "aftertouch", 2: "polyphonic aftertouch"}.get(kind, "a controller")
            yield ("told", f"GM2: channel {(channel & 15) + 1}, {what} for something else than vibrato")
        case (0x7E | 0x7F, *_):
            pass  # time code, machine control, identity, sample dumps: nothing that sounds
        case (0x41, _, 0x42, 0x12, _, _, _, _, *_):
            yield from _gs(message)
        case (0x43, device, 0x4C, *_) if device & 0xF0 == 0x10 and len(message) >= 7:
            yield from _xg(message)
        case (0x41, _, 0x45, *_) | (0x41, _, 0x42, 0x11, *_) | (0x43, _, 0x4C, *_):
            pass  # letters and pictures on the display; requests for data
        case (0x41, _, 0x16, *_):
            yield ("told", "MT-32: sounds and settings of that module")
        case (maker, *_):
            yield ("told", f"{MAKERS.get(maker, 'some maker')}: a message for one of its instruments")


def _device_control(message: bytes) -> Iterator[Setting]:
    match tuple(message[3:]):
        case (0x01, low, high, *_):
            yield ("master", "volume", (low + 128 * high) / 16383)
        case (0x02, low, high, *_):
            if low + 128 * high not in (8192, 8191):
                yield ("told", "master balance")
        case (0x03, low, high, *_):
            yield ("master", "tuning", (low + 128 * high - 8192) / 8192)
        case (0x04, _, high, *_):
            yield ("master", "transposition", high - 64)
        case (0x05, 1, 1, 1, 1, 1, *pairs):
            for name, value in zip(pairs[::2], pairs[1::2], strict=False):
                if name == 0 and value in GM2_REVERBS:
                    yield ("room", GM2_REVERBS[value])
                elif name == 1:
                    yield ("told", "GM2: the reverb's time")
        case (0x05, 1, 1, 1, 1, 2, *pairs):
            for name, value in zip(pairs[::2], pairs[1::2], strict=False):
                if name == 0 and value < len(CHORUS_TYPES):
                    yield ("chorus", CHORUS_TYPES[value])
                elif name:
                    yield ("told", "GM2: the chorus's rate, depth, feedback or its send to the reverb")


def _tuning(message: bytes) -> Iterator[Setting]:
    """MIDI Tuning: scales of an octave, single notes and whole tables; a damaged table is passed over."""
    kind, data = message[3], message[4:]
    if kind in (0x08, 0x09) and len(data) >= 3 + 12 * (kind - 7):
        mask = (data[0] & 3) << 14 | (data[1] & 127) << 7 | data[2] & 127
        channels = tuple(channel for channel in range(16) if mask >> channel & 1)
        if kind == 0x08:
            cents = tuple(float(value - 64) for value in data[3:15])
        else:
            pairs = zip(data[3:27:2], data[4:27:2], strict=True)
            cents = tuple((high * 128 + low - 8192) * 100 / 8192 for high, low in pairs)
        yield ("scale", channels, cents)
    elif kind in (0x02, 0x07):
        bank, data = (data[0], data[1:]) if kind == 0x07 and data else (0, data)
        if len(data) >= 2:
            entries = [data[i : i + 4] for i in range(2, 2 + 4 * data[1], 4)]
            keys = {e[0]: tuned for e in entries if len(e) == 4 and (tuned := _cents(e[0], e[1:])) is not None}
            yield ("tune", bank, data[0], keys)
    elif kind in (0x01, 0x04):
        bank, data = (data[0], data[1:]) if kind == 0x04 and data else (0, data)
        if len(data) >= 1 + 16 + 3 * 128:
            table = data[17 : 17 + 3 * 128]
            offsets = {key: _cents(key, table[3 * key : 3 * key + 3]) for key in range(128)}
            yield ("tune", bank, data[0], {key: offset for key, offset in offsets.items() if offset is not None})
    elif kind in (0x05, 0x06):
        yield ("told", "MIDI Tuning: a scale stored as a tuning program")


def _cents(key: int, semitone_and_fraction: bytes) -> float | None:
    """How far a key is tuned from its place; None for "no change"."""
    semitone, high, low = semitone_and_fraction
    if (semitone, high, low) == (127, 127, 127):
        return None
    return 100 * (semitone - key + (128 * high + low) / 16384)


def _key_based(channel: int, key: int, pairs: list[int]) -> Iterator[Setting]:
    """Key-based instrument controllers: GM2's way to change one drum."""
    for number, value in zip(pairs[::2], pairs[1::2], strict=False):
        name = {7: "relative level", 10: "pan", 91: "send"}.get(number)
        if name:
            yield ("drum key", channel & 15, key, name, value)
        elif value:
            yield ("told", f"GM2: drum key {key}, controller {number} of its own")


# Roland


def gs_channel(block: int) -> int:
    """The channel (0 to 15) of a GS block: they are numbered 10, 1 to 9, 11 to 16."""
    return 9 if block == 0 else block - 1 if block < 10 else block


def _gs(message: bytes) -> Iterator[Setting]:
    address, data, checksum = message[4:7], message[7:-1], message[-1]
    if (sum(message[4:-1]) + checksum) & 0x7F:
        yield ("told", "GS: a message with a wrong checksum, passed over as a GS module does")
        return
    high, middle, low = address
    if (high, middle, low) in ((0x40, 0, 0x7F), (0, 0, 0x7F)) and data:
        if data[0] in (0, 1):
            yield ("reset", "gs")
        elif high == 0x40:
            yield ("reset", "gm")  # 7F: GS off
    elif (high, middle, low) == (0x40, 0, 0) and len(data) >= 4:
        yield _master_tuning(data)
        yield from _gs(_gs_message((0x40, 0, 4), data[4:])) if len(data) > 4 else ()
    elif high == 0x40 and middle & 0xF0 == 0x10 and low == 0 and len(data) >= 2:
        channel = gs_channel(middle & 15)
        yield ("part", channel, "bank", 128 * data[0])
        yield ("part", channel, "program", data[1])
        yield from _gs(_gs_message((0x40, middle, 2), data[2:])) if len(data) > 2 else ()
    elif high == 0x40 and middle & 0xF0 == 0x10 and low in (0x17, 0x2A) and len(data) >= 2:
        channel = gs_channel(middle & 15)
        if low == 0x17:
            tenths_of_hz = ((data[0] & 15) << 4 | data[1] & 15) - 128
            if tenths_of_hz:
                yield ("told", f"GS: part {channel + 1} out of tune by {tenths_of_hz / 10:+g} Hz")
        else:
            yield ("part", channel, "fine cents", (128 * data[0] + data[1] - 8192) * 100 / 8192)
    elif high == 0x40 and middle & 0xF0 == 0x10 and low == 0x40:
        yield ("scale", (gs_channel(middle & 15),), tuple(float(value - 64) for value in data[:12]))
    else:
        for value in data:
            yield from _gs_byte(high, middle, low, value)
            low += 1


def _gs_message(address: tuple[int, int, int], data: bytes) -> bytes:
    body = (*address, *data)
    return bytes((0x41, 0x10, 0x42, 0x12, *body, -sum(body) & 127))


def _master_tuning(data: bytes) -> Setting:
    a, b, c, d = data[:4]
    return ("master", "tuning", ((a << 12 | b << 8 | c << 4 | d) - 1024) / 1000)  # tenths of cents


_GS_PART = {
    0x13: "poly", 0x15: "drums", 0x16: "key shift", 0x19: "volume", 0x1C: "pan", 0x21: "chorus", 0x22: "reverb",
    0x32: "brightness", 0x34: "attack", 0x35: "decay", 0x36: "release",
}  # fmt: skip
_GS_PART_TOLD = {
    0x30: "vibrato rate", 0x31: "vibrato depth", 0x33: "resonance", 0x37: "vibrato delay",
    0x1A: "how velocity counts", 0x1B: "how velocity counts",
}  # fmt: skip
_XG_PART = {
    0x03: "program", 0x05: "poly", 0x07: "drums", 0x08: "key shift", 0x0B: "volume", 0x0E: "pan", 0x12: "chorus",
    0x13: "reverb", 0x18: "brightness", 0x1A: "attack", 0x1B: "decay", 0x1C: "release", 0x23: "bend range",
    0x67: "portamento", 0x68: "portamento time",
}  # fmt: skip
_XG_PART_TOLD = {
    0x15: "vibrato rate", 0x16: "vibrato depth", 0x17: "vibrato delay", 0x19: "resonance",
    0x0C: "how velocity counts", 0x0D: "how velocity counts",
}  # fmt: skip


def _gs_byte(high: int, middle: int, low: int, value: int) -> Iterator[Setting]:
    """One byte at one GS address, of those that stand for themselves."""
    if (high, middle) == (0x40, 0x00):
        if low == 0x04:
            yield ("master", "volume", value / 127)
        elif low == 0x05:
            yield ("master", "transposition", value - 64)
        elif low == 0x06 and value != 64:
            yield ("told", "GS: master pan")
    elif (high, middle) == (0x40, 0x01):
        if low == 0x30 and value < len(GS_REVERBS):
            if value < 6:
                yield ("room", GS_REVERBS[value])
            else:
                yield ("told", f"GS: the reverb as a {GS_REVERBS[value]}")
        elif low == 0x38 and value < 8:
            yield ("chorus", CHORUS_TYPES[value]) if value < 6 else ("told", "GS: the chorus as a short delay")
        elif 0x50 < low <= 0x5A and value:
            yield ("told", "GS: a delay effect")
    elif high == 0x40 and middle & 0xF0 == 0x10:
        yield from _gs_part(gs_channel(middle & 15), low, value)
    elif high == 0x40 and middle & 0xF0 == 0x20:
        channel = gs_channel(middle & 15)
        if low == 0x10:
            yield ("part", channel, "bend range", value - 64)
        elif low == 0x04:
            yield ("part", channel, "vibrato range", value * 6 / 127)
        elif low in (0x00, 0x20, 0x30, 0x40, 0x50) and value != 64:
            yield ("told", f"GS: part {channel + 1}, a controller that changes the pitch")
    elif high == 0x41:
        name = {0x2: "level", 0x4: "pan", 0x5: "send"}.get(middle & 15)
        if name:
            yield ("drum", middle >> 4 & 1, low, name, value)
        elif middle & 15 == 1:
            yield ("told", f"GS: drum key {low} at another pitch")
    elif (high, middle) == (0x40, 0x03):
        yield ("told", "GS: an insertion effect")


def _gs_part(channel: int, low: int, value: int) -> Iterator[Setting]:
    if low in _GS_PART:
        yield ("part", channel, _GS_PART[low], _value(_GS_PART[low], value))
    elif low in _GS_PART_TOLD and value != 64:
        yield ("told", f"GS: part {channel + 1}, {_GS_PART_TOLD[low]}")
    elif low == 0x02 and value != channel:
        yield ("told", f"GS: part {channel + 1} on another channel")
    elif (low == 0x1D and value) or (low == 0x1E and value < 127):
        yield ("told", f"GS: part {channel + 1}, only some of the keys")
    elif 0x41 <= low <= 0x4B:  # one tone of a scale; the whole scale is written from 40 on
        yield ("part", channel, "tone", (low - 0x40, float(value - 64)))


def _value(name: str, value: int) -> int:
    if name == "key shift" or name == "bend range":
        return value - 64
    return value or 64 if name == "pan" else value


# Yamaha


def _xg(message: bytes) -> Iterator[Setting]:
    high, middle, low = message[3:6]
    data = message[6:]
    if (high, middle, low) == (0, 0, 0) and len(data) >= 4:
        yield _master_tuning(data)
        data, low = data[4:], 4
    elif high == 0x08 and low == 0x09 and len(data) >= 2:
        tenths_of_hz = ((data[0] & 15) << 4 | data[1] & 15) - 128
        if tenths_of_hz:
            yield ("told", f"XG: part {middle + 1} out of tune by {tenths_of_hz / 10:+g} Hz")
        data, low = data[2:], 0x0B
    elif (high, middle) == (0x02, 0x01) and low in (0x00, 0x20, 0x40):
        yield from _xg_effect(low, data)
        return
    for value in data:
        yield from _xg_byte(high, middle, low, value)
        low += 1


def _xg_effect(low: int, data: bytes) -> Iterator[Setting]:
    msb, lsb = data[0], data[1] if len(data) > 1 else 0
    names = {0x00: XG_REVERBS, 0x20: XG_CHORUSES}.get(low, {}).get(msb)
    if names:
        lsb = 1 if lsb in (6, 7) and msb == 1 else lsb  # the M and L halls of later modules
        yield ("room" if low == 0 else "chorus", names[min(lsb, len(names) - 1)])
    elif msb:
        yield ("told", "XG: another type of {}".format({0x00: "reverb", 0x20: "chorus"}.get(low, "variation effect")))


def _xg_byte(high: int, middle: int, low: int, value: int) -> Iterator[Setting]:
    """One byte at one XG address, of those that stand for themselves."""
    if (high, middle) == (0, 0):
        if low == 0x04:
            yield ("master", "volume", value / 127)
        elif low == 0x06:
            yield ("master", "transposition", value - 64)
        elif low in (0x7E, 0x7F):
            yield ("reset", "xg")
        elif low == 0x7D:
            yield ("reset drums", value)
    elif high == 0x08 and middle < 16:
        yield from _xg_part(middle, low, value)
    elif high & 0xF0 == 0x30 and high & 15 < 2:
        name = {0x00: "tuning", 0x01: "cents", 0x02: "level", 0x04: "pan", 0x05: "send"}.get(low)
        if name:
            yield ("drum", high & 15, middle, name, value - 64 if low < 2 else value)
        elif low in (0x0B, 0x0C, 0x0D, 0x0E, 0x0F) and value != 64:
            yield ("told", f"XG: drum key {middle}, another filter or decay")
    elif high == 0x03:
        yield ("told", "XG: an insertion effect")


def _xg_part(channel: int, low: int, value: int) -> Iterator[Setting]:
    if low == 0x01:
        yield ("part", channel, "bank msb", value)
    elif low == 0x02:
        yield ("part", channel, "bank lsb", value)
    elif low in _XG_PART:
        yield ("part", channel, _XG_PART[low], _value(_XG_PART[low], value))
    elif low in _XG_PART_TOLD and value != 64:
        yield ("told", f"XG: part {channel + 1}, {_XG_PART_TOLD[low]}")
    elif low == 0x04 and value != channel:
        yield ("told", f"XG: part {channel + 1} on another channel")
    elif (low == 0x0F and value) or (low == 0x10 and value < 127):
        yield ("told", f"XG: part {channel + 1}, only some of the keys")
    elif 0x41 <= low <= 0x4C:
        yield ("part", channel, "tone", (low - 0x41, float(value - 64)))
