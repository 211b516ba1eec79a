"""What one channel of a sound module, and one port of sixteen of them, is set to."""

from collections import deque
from dataclasses import dataclass, field

from miao.midi.events import Shape, Sound

# what a channel plays with before any controller: General MIDI's power-up values
DEFAULTS = {
    "volume": 100 / 127,
    "expression": 1.0,
    "pan": 0.0,  # -1 left to 1 right
    "reverb": 40 / 127,
    "chorus": 0.0,
    "modulation": 0.0,  # of the usual depth of 50 cents; above 1 where the depth is set higher
    "soft": 0.0,
    "sustain": 0.0,
    "sostenuto": 0.0,
    "pressure": 0.0,
    "bend": 0.0,  # semitones
    # 64 / 127 is how the voice is; all but brightness count for the notes that start from then on
    "brightness": 64 / 127, "attack": 64 / 127, "decay": 64 / 127, "release": 64 / 127,
}  # fmt: skip
SOUND_CONTROLLERS = {72: "release", 73: "attack", 74: "brightness", 75: "decay"}
SOUND_NRPNS = {(1, 32): "brightness", (1, 99): "attack", (1, 100): "decay", (1, 102): "release"}  # of GS and XG
CONTROLLERS = {
    1: "modulation", 7: "volume", 10: "pan", 11: "expression", 64: "sustain", 66: "sostenuto", 67: "soft",
    **SOUND_CONTROLLERS, 91: "reverb", 93: "chorus",
}  # fmt: skip
NO_PARAMETER = (127, 127)  # the "null" parameter: data entry has no effect
BEND_SEMITONES, MPE_BEND_SEMITONES, WIDEST_BEND = 2, 48, 96  # General MIDI's; MPE's on member channels; MPE's widest
VIBRATO_SEMITONES = 0.5  # General MIDI 2's depth of a full modulation wheel
_REMEMBERED_RELEASES = 32
_PIANOS = range(8)


@dataclass
class Port:
    """What the sixteen channels of a port share: a port is a sound module of its own."""

    mode: str = ""  # "gm", "gm2", "gs" or "xg" once one of them has been switched on
    volume: float = 1.0  # master
    tuning: float = 0.0  # semitones, master
    transposition: int = 0  # semitones, master
    kits: dict[int, dict[int, dict[str, float]]] = field(default_factory=dict)  # drum map -> key -> what is changed
    tunings: dict[tuple[int, int], dict[int, float]] = field(default_factory=dict)  # (bank, program) -> key -> cents


class Channel:
    """The state of one channel while the events go by."""

    def __init__(self, lane: int, port: Port) -> None:
        self.lane, self.port = lane, port
        self.values = dict(DEFAULTS)  # what has been said of each controller
        self.open: dict[
            int, list[tuple[int, int, int]]
        ] = {}  # pitch -> (note, track, velocity), keys down, oldest first
        self.held: dict[int, list[tuple[int, int]]] = {}  # pitch -> (note, velocity), keys up, held by a pedal
        self.caught: set[int] = set()  # notes that sostenuto holds
        self.tracks: set[int] = set()  # that have played a note
        # (time, pitch, note, velocity) of piano notes that were let go last: the pedal may catch them
        self.recent: deque[tuple[float, int, int, int]] = deque(maxlen=_REMEMBERED_RELEASES)
        self.choking: dict[int, list[int]] = {}  # group of drums that exclude each other -> what may sound of it
        self.is_down = False  # the sustain pedal
        self.master: Channel | None = None  # of an MPE member
        self.members: list[Channel] = []  # of an MPE master
        self.power_up()

    def power_up(self) -> None:
        """All settings as General MIDI has them when it is switched on."""
        self.program = self.bank = self.bank_msb = self.bank_lsb = 0
        self.part_is_drum = self.lane % 16 == 9 and self.master is None
        self.drum_map = 0
        self.wheel = 0.0  # -1 to 1
        self.volume = DEFAULTS["volume"]
        self.bend_range = BEND_SEMITONES * 100  # cents
        self.fine, self.coarse = 8192, 64  # RPN 1 (14 bits) and 2, both in the middle
        self.key_shift, self.part_tuning = 0, 0.0  # semitones
        self.wheel_depth, self.modulation = VIBRATO_SEMITONES, 0.0
        self.sound_settings = {name: [64, 64] for name in SOUND_NRPNS.values()}  # by controller and by NRPN: a sum
        self.rpn, self.nrpn, self.is_registered = NO_PARAMETER, NO_PARAMETER, True
        self.is_mono = self.has_portamento = False
        self.portamento_time, self.portamento_from = 0, -1
        self.last_pitch = -1
        self.scale: tuple[float, ...] = (0.0,) * 12  # cents
        self.tuning_bank = self.tuning_program = 0
        self.set_sound(self.part_is_drum)

    def set_sound(self, is_drum: bool) -> None:
        """What notes are played with from here on."""
        self.sound = Sound(self.program, self.bank, is_drum)
        self.has_dampers = self.program in _PIANOS and not is_drum
        self.look()

    def look(self) -> None:
        """Whether nothing but key and velocity decides how a note begins."""
        self.is_plain = not (
            self.is_mono or self.has_portamento or self.portamento_from >= 0 or any(self.scale) or self.port.tunings
        )

    def bend(self) -> float:
        """Semitones: pitch wheel, channel and master tuning, key shift; of an MPE member its master's wheel, too."""
        semitones = self.wheel * self.bend_range / 100
        if self.master is not None:
            semitones += self.master.wheel * self.master.bend_range / 100
        semitones += (self.fine - 8192) / 8192 + self.coarse - 64 + self.part_tuning + self.port.tuning
        return semitones if self.sound.is_drum else semitones + self.port.transposition + self.key_shift

    def glide(self, pitch: int) -> tuple[float, float]:
        """From how many semitones away, and for how many seconds, the pitch of a new note glides to its place."""
        begin = self.portamento_from if self.portamento_from >= 0 else self.last_pitch if self.has_portamento else -1
        self.portamento_from = -1
        if begin < 0 or begin == pitch or not self.portamento_time:
            return 0.0, 0.0
        return float(begin - pitch), abs(begin - pitch) * semitone_seconds(self.portamento_time)

    def shape(self, pitch: int) -> Shape:
        """How a note of this channel, which is not plain, departs from an ordinary one."""
        glide, seconds = self.glide(pitch)
        return Shape(glide, seconds, self.tuning(pitch))

    def tuning(self, pitch: int) -> float:
        """Cents by which a key is tuned beside its channel."""
        table = self.port.tunings.get((self.tuning_bank, self.tuning_program), {})
        return self.scale[pitch % 12] + table.get(pitch, 0.0)

    def drum_shape(self, key: int) -> Shape:
        """How a drum key has been changed: by its drum map (GS, XG), or for this channel alone (GM2)."""
        changes = {
            **self.port.kits.get(self.drum_map, {}).get(key, {}),
            **self.port.kits.get(16 + self.lane % 16, {}).get(key, {}),
        }
        gain = (
            bool(changes.get("is on", 1))
            * (changes.get("level", 127) / 127) ** 2
            * (changes.get("relative level", 64) / 64) ** 2
        )
        pan = changes.get("pan", 64)
        return Shape(
            tuning=100 * changes.get("tuning", 0.0) + changes.get("cents", 0.0),
            gain=gain,
            pan=max(-1.0, (pan - 64) / 63) if pan else 0.0,  # 0 is a place by chance: the middle of all places
            send=changes.get("send", 127) / 127,
        )


def semitone_seconds(portamento_time: int) -> float:
    """How long a glide takes for each semitone, by CC 5 (0 to 127): 3 ms at 16, 50 ms at 64, 1 s at 127.

    No standard gives the times. Modules agree on a law between linear at the bottom and exponential above; this is one.
    """
    growth: float = 2.718281828 ** (portamento_time / 22)
    return 0.003 * (growth - 1)
