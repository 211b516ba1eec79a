"""MIDI files written byte by byte, from the format's own tables: an oracle apart from every library.

960 ticks are one second.
"""

import struct

END = b"\xff\x2f\x00"
GM_ON = bytes([0x7E, 0x7F, 0x09, 0x01])
GS_ON = bytes([0x41, 0x10, 0x42, 0x12, 0x40, 0x00, 0x7F, 0x00, 0x41])
XG_ON = bytes([0x43, 0x10, 0x4C, 0x00, 0x00, 0x7E, 0x00])


def varint(number):
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.insert(0, number & 0x7F | 0x80)
    return bytes(digits)


def track(*events, end=0):
    """An MTrk chunk of (delta ticks, bytes) pairs, ended `end` ticks after the last."""
    body = b"".join(varint(delta) + event for delta, event in [*events, (end, END)])
    return b"MTrk" + struct.pack(">I", len(body)) + body


def smf(*chunks, kind=1, division=480):
    return b"MThd" + struct.pack(">IHHH", 6, kind, len(chunks), division) + b"".join(chunks)


def on(pitch, velocity=100, channel=0):
    return bytes([0x90 | channel, pitch, velocity])


def off(pitch, channel=0):
    return bytes([0x80 | channel, pitch, 64])


def control(number, value, channel=0):
    return bytes([0xB0 | channel, number, value])


def program(number, channel=0):
    return bytes([0xC0 | channel, number])


def wheel(value, channel=0):
    return bytes([0xE0 | channel, (value + 8192) & 127, (value + 8192) >> 7])


def tempo(microseconds):
    return b"\xff\x51\x03" + microseconds.to_bytes(3)


def text(kind, payload):
    return bytes([0xFF, kind]) + varint(len(payload)) + payload


def sysex(payload):
    return b"\xf0" + varint(len(payload) + 1) + payload + b"\xf7"


def gs(*body):
    """Roland's data set for the GS format, with its checksum."""
    return sysex(bytes([0x41, 0x10, 0x42, 0x12, *body, -sum(body) & 127]))


def xg(*body):
    """Yamaha's parameter change for the XG format."""
    return sysex(bytes([0x43, 0x10, 0x4C, *body]))


def registered(number, coarse, fine=None, channel=0):
    """A registered parameter by its LSB, and its data."""
    data = [control(101, 0, channel), control(100, number, channel), control(6, coarse, channel)]
    return data if fine is None else [*data, control(38, fine, channel)]


def nonregistered(msb, lsb, value, channel=0):
    return [control(99, msb, channel), control(98, lsb, channel), control(6, value, channel)]


NOTE_OF_A_SECOND = ((0, on(60)), (960, off(60)))
