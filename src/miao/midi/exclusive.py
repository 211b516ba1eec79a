"""System-exclusive messages: what they set, in the order in which they set it.

Universal messages by MIDI 1.0 (Universal System Exclusive), MIDI Tuning (CA-020 to 022 and RP-020), General MIDI 1
and 2 (RP-003, RP-024), Global Parameter Control (CA-024) and key-based controllers (CA-023) are here; Roland's are in
`gs`, Yamaha's in `xg`.

What comes out are settings, tuples of a word and its values, which `module.Module` takes:

    ("reset", mode)                      "gm", "gm2", "gs" or "xg"; "" where only sounds and controllers go back
    ("master", name, value)              volume 0..1, tuning (semitones), transposition (semitones)
    ("part", channel, name, value)       name and value as in `channel.Channel.set_part`
    ("scale", channels, cents, is_now)   twelve offsets from C on, for a set of channels; whether for what sounds, too
    ("tune", bank, program, {key: cents from where the key belongs}, is_now)
    ("drum", kit map, key, name, value)  level, pan and send as of 127, tuning in semitones, "is on"
    ("drum key", channel, key, name, value)  the same for the drums of one channel
    ("room", name), ("chorus", name)     the types of reverb and chorus
    ("told", sentence)                   what is asked for and not done
"""

from collections.abc import Iterator

from miao.midi.effects import CHORUS_TYPES, GM2_REVERBS, Setting
from miao.midi.gs import gs_settings
from miao.midi.xg import xg_settings

MAKERS = {
    0x06: "Lexicon", 0x07: "Kurzweil", 0x0F: "Ensoniq", 0x18: "E-mu", 0x3E: "Waldorf", 0x40: "Kawai", 0x41: "Roland",
    0x42: "Korg", 0x43: "Yamaha", 0x44: "Casio", 0x47: "Akai", 0x7D: "a maker's own",
}  # fmt: skip

_PRESSURES = {1: "aftertouch", 2: "polyphonic aftertouch"}
# by CA-022's numbers: what is changed, and the values that change nothing; vibrato is played, of 50 cents (127 is 600)
_DESTINATIONS = {
    0: ("pitch", (64,)), 1: ("brightness", (64,)), 2: ("loudness", (64,)), 3: ("another depth of vibrato", (10, 11)),
    4: ("a filter's depth", (0,)), 5: ("tremolo depth", (0,)),
}  # fmt: skip


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
        case (0x7F, _, 0x09, kind, channel, *rest):
            yield from _destinations(kind, channel, rest)
        case (0x7E | 0x7F, *_):
            pass  # time code, machine control, identity, sample dumps: nothing that sounds
        case (0x41, _, 0x42, 0x12, _, _, _, _, *_):
            yield from gs_settings(message)
        case (0x43, device, 0x4C, _, _, _, _, *rest) if device < 0x20 and (device >= 0x10 or len(rest) > 1):
            yield from xg_settings(message)
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
    kind, data, is_now = message[3], message[4:], message[0] == 0x7F
    if kind in (0x08, 0x09) and len(data) >= 3 + 12 * (kind - 7):
        mask = (data[0] & 3) << 14 | (data[1] & 127) << 7 | data[2] & 127
        channels = tuple(channel for channel in range(16) if mask >> channel & 1)
        if kind == 0x08:
            cents = tuple(float(value - 64) for value in data[3:15])
        else:
            pairs = zip(data[3:27:2], data[4:27:2], strict=True)
            cents = tuple((high * 128 + low - 8192) * 100 / 8192 for high, low in pairs)
        yield ("scale", channels, cents, is_now)
    elif kind in (0x02, 0x07):
        bank, data = (data[0], data[1:]) if kind == 0x07 and data else (0, data)
        if len(data) >= 2:
            entries = [data[i : i + 4] for i in range(2, 2 + 4 * data[1], 4)]
            keys = {e[0]: tuned for e in entries if len(e) == 4 and (tuned := _cents(e[0], e[1:])) is not None}
            yield ("tune", bank, data[0], keys, is_now)
    elif kind in (0x01, 0x04):
        bank, data = (data[0], data[1:]) if kind == 0x04 and data else (0, data)
        if len(data) >= 1 + 16 + 3 * 128:
            table = data[17 : 17 + 3 * 128]
            offsets = {key: _cents(key, table[3 * key : 3 * key + 3]) for key in range(128)}
            keys = {key: offset for key, offset in offsets.items() if offset is not None}
            yield ("tune", bank, data[0], keys, is_now)
    elif kind in (0x05, 0x06):
        yield ("told", "MIDI Tuning: a scale stored as a tuning program")


def _cents(key: int, semitone_and_fraction: bytes) -> float | None:
    """How far a key is tuned from its place; None for "no change"."""
    semitone, high, low = semitone_and_fraction
    if (semitone, high, low) == (127, 127, 127):
        return None
    return 100 * (semitone - key + (128 * high + low) / 16384)


def _destinations(kind: int, channel: int, data: list[int]) -> Iterator[Setting]:
    """CA-022: what pressure, or a controller that is named first, changes, and by how much."""
    source, pairs = ("a controller", data[1:]) if kind == 3 else (_PRESSURES.get(kind, "pressure"), data)
    for number, value in zip(pairs[::2], pairs[1::2], strict=False):
        if number in _DESTINATIONS and value not in _DESTINATIONS[number][1]:
            yield ("told", f"GM2: channel {(channel & 15) + 1}, {source} for {_DESTINATIONS[number][0]}")


def _key_based(channel: int, key: int, pairs: list[int]) -> Iterator[Setting]:
    """Key-based instrument controllers: GM2's way to change one drum."""
    for number, value in zip(pairs[::2], pairs[1::2], strict=False):
        name = {7: "relative level", 10: "pan", 91: "send"}.get(number)
        if name:
            yield ("drum key", channel & 15, key, name, value)
        elif value:
            yield ("told", f"GM2: drum key {key}, controller {number} of its own")
