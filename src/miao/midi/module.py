"""A sound module: events in, actions out, one at a time; a file and a keyboard take the same way.

Rules, each of them tested; where they come from stands in brackets (MIDI 1.0 Detailed Specification; GM2: General MIDI
2, RP-024; RP-0xx: recommended practices of the MIDI Association; GS, XG: Roland's and Yamaha's tables):

- A note-on with velocity 0 is a note-off. What follows from keys and pedals says `midi.keys`; CC 64 >= 64 is down (GM2
  3.3.7), so are CC 66 (sostenuto) and 67 (soft).
- All sound off (CC 120) silences a channel at once, drums too (GM2 3.5.1); all notes off (CC 123, and 124 to 127, which
  imply it) releases the keys, and pedals still hold; CC 121 resets the controllers that RP-015 names.
- MIDI Tuning sent in real time moves what sounds; all other tuning of keys counts for the notes that start then.
- Mono mode (CC 126, GM2 3.5.6). Portamento (CC 5, 65, 84): a new note glides in.
- Bank select takes effect with the next program change. Channel 10 is drums until a message says otherwise. Bank MSB
  126 and 127 mean drums with XG on, 120 with GM2 on, 121 melody; otherwise these are banks like others.
- RPN and NRPN numbers are kept apart; data increment and decrement by RP-018. MPE by its configuration message
  (RP-053).
- GM, GM2, GS and XG On put everything of their port back and silence it. Ports are modules of their own.
"""

from collections.abc import Iterable
from typing import Any

from miao.midi.channel import (
    BEND_SEMITONES,
    CONTROLLERS,
    DEFAULTS,
    MPE_BEND_SEMITONES,
    NO_PARAMETER,
    SOUND_CONTROLLERS,
    SOUND_NRPNS,
    VIBRATO_SEMITONES,
    WIDEST_BEND,
    Channel,
    Port,
)
from miao.midi.effects import Setting
from miao.midi.events import (
    CONTROL,
    KEY_PRESSURE,
    NOTE_OFF,
    NOTE_ON,
    PRESSURE,
    PROGRAM,
    SYSEX,
    WHEEL,
    Action,
    Control,
    Effect,
    Event,
    KeyPressure,
    KeyTuning,
)
from miao.midi.exclusive import settings
from miao.midi.keys import Keys
from miao.midi.told import Told

__all__ = ["CONTROLLERS", "DEFAULTS", "Module"]

_RESET_BY_121 = ("expression", "modulation", "sustain", "sostenuto", "soft", "pressure")
_PARAMETER_NUMBERS = (6, 38, 96, 97, 98, 99, 100, 101)


class Module:
    """A General MIDI sound module. `told` counts what it was asked for and does not do."""

    def __init__(self) -> None:
        self.told = Told()
        self.zones: dict[int, int] = {}  # lane -> lane of its MPE master, of all that have ever been in a zone
        self._ports: dict[int, Port] = {}
        self._channels: dict[int, Channel] = {}
        self._keys = Keys()

    def feed(self, time: float, event: Event | tuple[int, int, int, int, int, bytes]) -> list[Action]:
        """What follows from an event at a time (seconds, never earlier than the event before)."""
        return self.feed_all((time,), (event,))

    def feed_all(
        self, times: Iterable[float], events: Iterable[Event | tuple[int, int, int, int, int, bytes]]
    ) -> list[Action]:
        """What follows from events, one after another, each at its time."""
        actions: list[Action] = []
        self._keys.actions = actions
        channels = self._channels
        for time, (kind, lane, first, second, track, message) in zip(times, events, strict=True):
            channel = channels.get(lane)
            if channel is None:
                channel = self._channel(time, lane)
            if kind == NOTE_ON and second:
                self._keys.note_on(time, track, channel, first, second)
            elif kind in (NOTE_OFF, NOTE_ON):
                self._keys.note_off(time, track, channel, first)
            elif kind == CONTROL:
                self._control_change(time, channel, first, second)
                if first not in _PARAMETER_NUMBERS:
                    for member in channel.members:
                        self._control_change(time, member, first, second)
            elif kind == WHEEL:
                channel.wheel = (first + 128 * second - 8192) / 8192
                for each in (channel, *channel.members):
                    self._write_bend(time, each)
            elif kind == PROGRAM:
                for each in (channel, *channel.members):
                    self._program_change(time, each, first)
            elif kind == PRESSURE:
                for each in (channel, *channel.members):
                    self._write(time, each, "pressure", first / 127)
            elif kind == KEY_PRESSURE:
                actions.append(KeyPressure(time, lane, first, second / 127))
            elif kind == SYSEX:
                for setting in settings(message):
                    self._apply(time, lane, setting)
        return actions

    def finish(self, time: float) -> list[Action]:
        """Lets go whatever is still held, by keys or pedals: nothing comes any more."""
        self._keys.actions = []
        for channel in self._channels.values():
            self._keys.drop_all(time, channel)
        return self._keys.actions

    def _channel(self, time: float, lane: int) -> Channel:
        """The channel of a lane, made when it is first spoken to."""
        if lane not in self._channels:
            port = self._ports.setdefault(lane // 16, Port())
            channel = self._channels[lane] = Channel(lane, port)
            self._write_volume(time, channel)
            self._write_bend(time, channel)
        return self._channels[lane]

    # controllers

    def _write(self, time: float, channel: Channel, name: str, value: float) -> None:
        if channel.values[name] == value:
            return
        before, channel.values[name] = channel.values[name], value
        self._keys.actions.append(Control(time, channel.lane, name, value))
        if name in ("sustain", "sostenuto") and (before >= 64 / 127) != (value >= 64 / 127):
            (self._keys.sustain if name == "sustain" else self._keys.sostenuto)(time, channel, value >= 64 / 127)

    def _write_volume(self, time: float, channel: Channel) -> None:
        self._write(time, channel, "volume", channel.volume * channel.port.volume)

    def _write_bend(self, time: float, channel: Channel) -> None:
        self._write(time, channel, "bend", channel.bend())

    def _write_modulation(self, time: float, channel: Channel) -> None:
        self._write(time, channel, "modulation", channel.modulation * channel.wheel_depth / VIBRATO_SEMITONES)

    def _set_sound(self, time: float, channel: Channel, name: str, value: int, *, is_nrpn: bool) -> None:
        """A sound controller, or its twin among the NRPNs of GS and XG: they add up."""
        channel.sound_settings[name][is_nrpn] = value
        self._write(time, channel, name, min(127, max(0, sum(channel.sound_settings[name]) - 64)) / 127)

    def _program_change(self, time: float, channel: Channel, program: int) -> None:
        msb, mode = channel.bank_msb, channel.port.mode
        is_drum = channel.part_is_drum
        if channel.master is not None or (msb == 121 and mode not in ("gs", "xg")):
            is_drum = False
        elif (msb in (126, 127) and mode == "xg") or (msb == 120 and mode == "gm2"):
            is_drum = True
        if is_drum and program != channel.program:
            channel.port.kits.pop(channel.drum_map, None)  # a new kit comes without the changes of the old one
        channel.program, channel.bank = program, 128 * msb + channel.bank_lsb
        channel.set_sound(is_drum)
        self._write_bend(time, channel)

    def _control_change(self, time: float, channel: Channel, number: int, value: int) -> None:
        if number == 7:
            channel.volume = value / 127
            self._write_volume(time, channel)
        elif number == 10:
            self._write(time, channel, "pan", max(-1.0, (value - 64) / 63))
        elif number == 1:
            channel.modulation = value / 127
            self._write_modulation(time, channel)
        elif number in SOUND_CONTROLLERS:
            self._set_sound(time, channel, SOUND_CONTROLLERS[number], value, is_nrpn=False)
        elif number in CONTROLLERS:
            self._write(time, channel, CONTROLLERS[number], value / 127)
        elif number == 0:
            channel.bank_msb = value
        elif number == 32:
            channel.bank_lsb = value
        elif number in (98, 99):
            msb, lsb = channel.nrpn
            channel.nrpn, channel.is_registered = (msb, value) if number == 98 else (value, lsb), False
        elif number in (100, 101):
            msb, lsb = channel.rpn
            channel.rpn, channel.is_registered = (msb, value) if number == 100 else (value, lsb), True
        elif number in (6, 38, 96, 97):
            self._enter_data(time, channel, number, value)
        elif number in (5, 65, 84):
            self._portamento(channel, number, value)
        elif number == 121:
            self._reset_controllers(time, channel)
        elif number == 120:
            self._keys.silence(time, channel)
        elif number >= 123:
            self._keys.release_all(time, channel)
            if number >= 126:
                channel.is_mono = number == 126
                channel.look()
        else:
            self.told.controller(number, channel.lane, value)

    def _portamento(self, channel: Channel, number: int, value: int) -> None:
        """Its time, its switch, and the key that the next note glides from whatever the switch says."""
        if number == 5:
            channel.portamento_time = value
        elif number == 65:
            channel.has_portamento = value >= 64
        else:
            channel.portamento_from = value
        channel.look()

    def _enter_data(self, time: float, channel: Channel, number: int, value: int) -> None:
        """Data entry (CC 6, 38) and its increments (96, 97) for the parameter that was chosen last."""
        if not channel.is_registered:
            if number == 6:
                self._enter_nrpn(time, channel, *channel.nrpn, value)
            return
        step = {96: 1, 97: -1}.get(number, 0)
        match channel.rpn:
            case (0, 0):
                cents = channel.bend_range + step  # RP-018: a step is one of the LSB, a cent
                if number == 6:
                    cents = 100 * value + channel.bend_range % 100
                elif number == 38:
                    cents = channel.bend_range // 100 * 100 + min(value, 99)
                # of an MPE member it goes for all members of its zone
                for each in channel.master.members if channel.master else (channel,):
                    each.bend_range = min(max(cents, 0), 100 * WIDEST_BEND)
                    self._write_bend(time, each)
                return
            case (0, 1):
                if number == 6:
                    channel.fine = channel.fine & 0x7F | value << 7
                elif number == 38:
                    channel.fine = channel.fine & ~0x7F | value
                channel.fine = min(max(channel.fine + step, 0), 16383)
            case (0, 2) if number != 38:
                channel.coarse = min(max(channel.coarse + step, 0), 127) if step else value
            case (0, 3) if number != 38:
                channel.tuning_program = min(max(channel.tuning_program + step, 0), 127) if step else value
            case (0, 4) if number != 38:
                channel.tuning_bank = min(max(channel.tuning_bank + step, 0), 127) if step else value
            case (0, 5):
                depth = channel.wheel_depth
                if number == 6:
                    depth = value + depth % 1
                elif number == 38:
                    depth = depth // 1 + value / 128
                channel.wheel_depth = min(max(depth + step / 128, 0.0), 24.0)
                self._write_modulation(time, channel)
            case (0, 6) if number == 6:
                self._configure_zone(time, channel, value)
            case (0, 2 | 3 | 4 | 6) | (127, 127):
                return
            case (msb, lsb):
                self.told.say(f"registered parameter {msb}/{lsb}")
        self._write_bend(time, channel)

    def _enter_nrpn(self, time: float, channel: Channel, msb: int, lsb: int, value: int) -> None:
        """What GS and XG do by non-registered parameters: filters of a part, and changes to one drum key."""
        drum = {24: "tuning", 25: "cents", 26: "level", 28: "pan", 29: "send"}.get(msb)
        if drum and channel.sound.is_drum:
            self._change_drum(channel.port, channel.drum_map, lsb, drum, value - 64 if msb < 26 else value)
        elif (msb, lsb) in SOUND_NRPNS:
            self._set_sound(time, channel, SOUND_NRPNS[msb, lsb], value, is_nrpn=True)
        elif (msb, lsb) != NO_PARAMETER and not drum:
            self.told.nrpn((msb, lsb), value)

    def _change_drum(self, port: Port, kit_map: int, key: int, name: str, value: float) -> None:
        port.kits.setdefault(kit_map, {}).setdefault(key, {})[name] = value

    def _reset_controllers(self, time: float, channel: Channel) -> None:
        """RP-015: pedals, wheel, expression, modulation, pressure, portamento and the chosen parameter."""
        channel.modulation = channel.wheel = 0.0
        for name in _RESET_BY_121:
            self._write(time, channel, name, DEFAULTS[name])
        channel.rpn, channel.nrpn, channel.is_registered = NO_PARAMETER, NO_PARAMETER, True
        channel.has_portamento, channel.portamento_from = False, -1
        channel.look()
        self._write_bend(time, channel)

    def _configure_zone(self, time: float, master: Channel, n_members: int) -> None:
        """MPE's configuration message: channel 1 gets the next n channels as members, channel 16 the n before it."""
        if master.lane % 16 not in (0, 15):
            return
        step = 1 if master.lane % 16 == 0 else -1
        lanes = [master.lane + step * (i + 1) for i in range(min(n_members, 15))]
        for member in [*master.members, *(self._channel(time, lane) for lane in lanes)]:
            if member.master is not None:
                member.master.members.remove(member)
            member.master, member.members = None, []
            member.bend_range, member.part_is_drum = 100 * BEND_SEMITONES, member.lane % 16 == 9
            member.set_sound(member.part_is_drum)
        for member in (self._channels[lane] for lane in lanes):
            member.master, member.part_is_drum, member.bend_range = master, False, 100 * MPE_BEND_SEMITONES
            member.program, member.bank = master.program, master.bank
            member.set_sound(False)
            master.members.append(member)
            self.zones[member.lane] = self.zones[master.lane] = master.lane
            self._write_bend(time, member)
        if master.master is not None:  # the other zone had taken it
            master.master.members.remove(master)
            master.master = None

    # system exclusive

    def _of_port(self, lane: int) -> list[Channel]:
        return [channel for channel in self._channels.values() if channel.lane // 16 == lane // 16]

    def _apply(self, time: float, lane: int, setting: Setting) -> None:
        """One setting of `exclusive.settings`, for the port of a lane."""
        port = self._ports.setdefault(lane // 16, Port())
        match setting:
            case ("reset", mode):
                self._reset(time, lane, mode)
            case ("master", name, value):
                setattr(port, name, value)
                for channel in self._of_port(lane):
                    self._write_volume(time, channel)
                    self._write_bend(time, channel)
            case ("part", number, name, value):
                self._set_part(time, self._channel(time, lane + number), name, value)
            case ("scale", numbers, cents, is_now) if len(cents) == 12:
                channels = [self._channel(time, lane + number) for number in numbers]
                before = _tunings(channels) if is_now else []
                for channel in channels:
                    channel.scale = cents
                    channel.look()
                self._retune(time, before)
            case ("tune", bank, program, keys, is_now):
                channels = self._of_port(lane)
                before = _tunings(channels) if is_now else []
                port.tunings.setdefault((bank, program), {}).update(keys)
                for channel in channels:
                    channel.look()
                self._retune(time, before)
            case ("drum", kit_map, key, name, value):
                self._change_drum(port, kit_map, key, name, value)
            case ("drum key", number, key, name, value):
                self._change_drum(port, 16 + number, key, name, value)
            case ("reset drums", kit_map):
                port.kits.pop(kit_map, None)
            case ("room" | "chorus" as kind, name):
                self._keys.actions.append(Effect(time, lane // 16, kind, name))
            case ("told", sentence):
                self.told.say(sentence)

    def _retune(self, time: float, before: list[tuple[Channel, int, float]]) -> None:
        """What sounds of keys follows their tuning, where it is not what it was."""
        for channel, pitch, cents in before:
            if channel.tuning(pitch) != cents:
                self._keys.actions.append(KeyTuning(time, channel.lane, pitch, channel.tuning(pitch) - cents))

    def _reset(self, time: float, lane: int, mode: str) -> None:
        port = self._ports[lane // 16]
        port.__init__(mode=mode)  # type: ignore[misc]  # as new, but the one that its channels have
        for kind in ("room", "chorus"):
            self._keys.actions.append(Effect(time, lane // 16, kind, ""))
        for channel in self._of_port(lane):
            self._keys.silence(time, channel)
            channel.master, channel.members = None, []
            channel.power_up()
            for name, value in DEFAULTS.items():
                self._write(time, channel, name, value)

    def _set_part(self, time: float, channel: Channel, name: str, value: Any) -> None:
        """One setting of a part; what is a controller, too, takes that way."""
        number = {
            "volume": 7, "pan": 10, "reverb": 91, "chorus": 93, "brightness": 74, "attack": 73, "decay": 75,
            "release": 72, "portamento time": 5, "bank msb": 0, "bank lsb": 32,
        }.get(name)  # fmt: skip
        if number is not None:
            self._control_change(time, channel, number, value)
        elif name == "program":
            self._program_change(time, channel, value)
        elif name == "bank":
            channel.bank_msb, channel.bank_lsb = value >> 7, value & 127
        elif name == "drums":
            channel.part_is_drum = value > 0
            channel.drum_map = int(value > 1) if channel.port.mode != "xg" else int(value > 2)
            channel.set_sound(value > 0)
        elif name == "key shift":
            channel.key_shift = min(max(value, -24), 24)
        elif name == "fine cents":
            channel.part_tuning = value / 100
        elif name == "bend range":
            channel.bend_range = 100 * min(max(value, 0), 24)
        elif name == "vibrato range":
            channel.wheel_depth = value
            self._write_modulation(time, channel)
        elif name == "portamento":
            channel.has_portamento = value > 0
        elif name == "poly":
            channel.is_mono = value == 0
        elif name == "tone":
            tone, cents = value
            channel.scale = (*channel.scale[:tone], cents, *channel.scale[tone + 1 :])
        channel.look()
        self._write_bend(time, channel)


def _tunings(channels: Iterable[Channel]) -> list[tuple[Channel, int, float]]:
    """How the keys of channels are tuned that may sound."""
    return [(c, pitch, c.tuning(pitch)) for c in channels if not c.sound.is_drum for pitch in {**c.open, **c.held}]
