"""What goes into a sound module, and what comes out: events and actions, small tuples both.

An event is what a key, a pedal or a file says; an action is what the player then does. `module.Module` is between them.
"""

from typing import NamedTuple

NOTE_OFF, NOTE_ON, KEY_PRESSURE, CONTROL, PROGRAM, PRESSURE, WHEEL = range(0x80, 0xF0, 0x10)
SYSEX, META = 0xF0, 0xFF
_N_DATA_BYTES = {PROGRAM: 1, PRESSURE: 1}


class Event(NamedTuple):
    """One channel message or one system-exclusive message."""

    kind: int  # NOTE_OFF to WHEEL, or SYSEX
    lane: int  # 16 x port + channel; of SYSEX 16 x port
    first: int = 0  # data bytes, 0 to 127; a message of one data byte has it in both
    second: int = 0
    track: int = 0  # where it stands, for keys that two tracks hold
    message: bytes = b""  # of SYSEX, without the F0 and F7 around it

    @classmethod
    def of(cls, message: bytes, port: int = 0, track: int = 0) -> "Event | None":
        """The event of one whole message as a MIDI cable carries it; None for what says nothing to a sound module.

        System common and real-time messages, unfinished ones, and those with impossible data bytes are nothing.
        """
        if not message:
            return None
        status, data = message[0], message[1:]
        if status == SYSEX:
            return cls(SYSEX, 16 * port, track=track, message=data.removesuffix(b"\xf7"))
        kind = status & 0xF0
        if not NOTE_OFF <= status < SYSEX or len(data) < _N_DATA_BYTES.get(kind, 2) or max(data) > 127:
            return None
        return cls(kind, 16 * port + (status & 0x0F), data[0], data[-1], track)


class Sound(NamedTuple):
    """What a channel is set to play with."""

    program: int  # 0 to 127; of drums, the kit
    bank: int  # 128 x MSB + LSB
    is_drum: bool


class Shape(NamedTuple):
    """How a note departs from an ordinary one of its channel; the fields of the same names of `notes.NOTE`."""

    glide: float = 0.0  # semitones by which its pitch begins away from its own
    glide_seconds: float = 0.0
    tuning: float = 0.0  # cents
    gain: float = 1.0
    pan: float = 0.0
    send: float = 1.0


PLAIN = Shape()


class Start(NamedTuple):
    """A note begins. Notes are numbered from 0 in the order of their starts."""

    time: float  # seconds, of all actions
    note: int
    lane: int
    track: int
    pitch: int
    velocity: int  # 1 to 127
    sound: Sound
    shape: Shape


class KeyUp(NamedTuple):
    """The key of a note came up while a pedal holds its sound: for whoever shows keys."""

    time: float
    note: int


class Release(NamedTuple):
    """The sound of a note is let go; its key is up, too. Drums ring on."""

    time: float
    note: int


class Catch(NamedTuple):
    """A note that has just been let go is held again: the pedal lifted the damper while the string still sounded."""

    time: float
    note: int


class Cut(NamedTuple):
    """A note fades at once, drums too."""

    time: float
    note: int


class Silence(NamedTuple):
    """All notes of a lane fade at once, also those whose release still sounds."""

    time: float
    lane: int


class Control(NamedTuple):
    """A controller of a lane has a new value; the names and ranges are those of `module.DEFAULTS`."""

    time: float
    lane: int
    name: str
    value: float


class KeyPressure(NamedTuple):
    """A key of a lane is pressed harder or less."""

    time: float
    lane: int
    pitch: int
    value: float  # 0 to 1


class KeyTuning(NamedTuple):
    """What sounds of a key of a lane moves in pitch; notes that start later have it in their shape."""

    time: float
    lane: int
    pitch: int
    cents: float  # from where it was


class Effect(NamedTuple):
    """A port asks for a type of reverb ("room") or "chorus"; "" is the usual one."""

    time: float
    port: int
    kind: str
    name: str


Action = Start | KeyUp | Release | Catch | Cut | Silence | Control | KeyPressure | KeyTuning | Effect
