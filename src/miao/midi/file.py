"""Standard MIDI Files as bytes: chunks and events, before anyone says what they mean.

The rules are those of the Standard MIDI Files specification (RP-001). Damage costs as little as can be: an event with
an impossible byte is left out alone, and only where no event can begin is the rest of its track lost, and counted.
"""

import struct
from array import array
from dataclasses import dataclass, field

import numpy as np

from miao.arrays import Flags
from miao.errors import ScoreError
from miao.midi.events import META, NOTE_ON, SYSEX
from miao.midi.formats import find_midi
from miao.midi.text import decode, find_encoding

_META_NAME, _META_INSTRUMENT, _META_DEVICE, _META_PORT, _META_END = 0x03, 0x04, 0x09, 0x21, 0x2F
_META_TEMPO, _META_METER = 0x51, 0x58
_LONGEST_DELTA = 0x0FFFFFFF  # four bytes of seven bits, the most that the format allows
# of system common messages; of the undefined F4 and F5, and of real-time messages, none
_N_COMMON_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}
_UNDEFINED = (0xF4, 0xF5, 0xF9, 0xFD)


@dataclass
class TrackEvents:
    """The events of one MTrk chunk; the last one is the end of the track (META)."""

    name: str = ""
    # of each event, flat: tick since the start of the track; NOTE_OFF to WHEEL, SYSEX or META; lane, which is
    # 16 x port + channel; two data bytes, 0 to 127 (of SYSEX the first is the index of its message)
    rows: "array[int]" = field(default_factory=lambda: array("q"))
    messages: list[bytes] = field(default_factory=list)  # system exclusive, without the F0 and F7 around it
    tempi: list[tuple[int, int]] = field(default_factory=list)  # (tick, microseconds per quarter note)
    meters: list[tuple[int, int, int]] = field(default_factory=list)  # (tick, numerator, denominator)
    n_bad: int = 0  # events left out because a data byte was above 127
    n_undefined: int = 0  # likewise because their status byte does not exist
    n_late: int = 0  # notes that stand behind an end of track in the middle of the chunk, and are read
    names_port: bool = False  # whether it says which port it goes to
    n_left_out: int = 0  # bytes that stand behind such an end, begin with notes and go wrong
    damage: str = ""  # why reading stopped early, if it did

    @property
    def is_damaged(self) -> bool:
        """Whether its events, and the pauses between them, may be wrong."""
        return bool(self.damage or self.n_bad or self.n_undefined)

    def table(self) -> np.ndarray:
        """The events as rows of (tick, kind, lane, first, second): int64 [E, 5]."""
        return np.array(self.rows, dtype=np.int64).reshape(-1, 5)


@dataclass(frozen=True)
class MidiFile:
    """What the bytes of a file say, event by event, before anything is made of it."""

    type: int  # 0, 1 or 2
    division: int  # the header's: ticks per quarter note, or SMPTE frames and ticks if bit 15 is set
    tracks: tuple[TrackEvents, ...]
    warnings: tuple[str, ...]
    sound_bank: str = ""  # the kind of sound bank that lay beside it, if any
    has_unknown_text: bool = False  # names that make sense in no encoding; they are read as Latin-1


@dataclass
class _Names:
    """The texts of a file: all must be seen before one can be read."""

    names: list[bytes] = field(default_factory=list)  # by track
    others: list[bytes] = field(default_factory=list)
    ports: dict[tuple[int, bytes], int] = field(default_factory=dict)  # (FF 21, FF 09) -> port


def parse_midi_file(data: bytes, name: str) -> MidiFile:
    """The events of a Standard MIDI File, bare (.mid, .kar), inside a RIFF (.rmi), or with other bytes in front of it.

    What is damaged is left out and named in `warnings`: an event with an impossible byte is skipped, a track is read up
    to where no event can begin, and a chunk whose length is wrong up to its end-of-track event or the next track.
    `name` is what error messages call the file. Raises: ScoreError if there is no header or no track at all.
    """
    container = find_midi(data, name)
    data = container.data
    header_size, kind, n_tracks, division = struct.unpack(">IHHH", data[4:14])
    if (division & 0x7FFF if division < 0x8000 else division & 0xFF) == 0:
        raise ScoreError(f"{name}: the header gives 0 ticks per beat, so no event has a time")
    tracks, warnings, names = [], [], _Names()
    if kind > 2:
        warnings.append(f"the header says type {kind}, which does not exist; read as type 1")
        kind = 1
    position = 8 + header_size if data[8 + header_size : 12 + header_size] == b"MTrk" else data.find(b"MTrk")
    while 0 <= position <= len(data) - 8:
        tag, size = struct.unpack(">4sI", data[position : position + 8])
        end = position + 8 + size
        is_sure = end == len(data) or data[end : end + 4].isalpha()
        if not is_sure:  # the length is wrong: trust the next track's tag
            end = data.find(b"MTrk", position + 8)
            end = len(data) if end < 0 else end
        if tag == b"MTrk":
            tracks.append(_read_track(data[position + 8 : end], size, is_sure, names))
        position = end
    if not tracks:
        raise ScoreError(f"{name}: a MIDI header but no track behind it; the file is damaged or cut off")
    if len(tracks) < n_tracks:
        warnings.append(f"{n_tracks - len(tracks)} of {n_tracks} tracks are missing")
    _spread_settings(tracks)
    for number, track in enumerate(tracks, start=1):
        warnings += [f"track {number}: {what}" for what in _damage(track)]
    encoding = find_encoding([*names.names, *names.others])
    for track, payload in zip(tracks, names.names, strict=True):
        track.name = decode(payload, encoding)
    is_unknown = encoding is None and any(names.names)
    return MidiFile(kind, division, tuple(tracks), tuple(warnings), container.sound_bank, is_unknown)


def seconds_at(ticks: np.ndarray, division: int, tempi: list[tuple[int, int]]) -> np.ndarray:
    """Ticks as seconds (float64, same shape) under a tempo map of (tick, microseconds per quarter note).

    120 quarter notes a minute until the first tempo; of several at one tick the last counts; a tempo of 0 is passed
    over. A division in SMPTE form (bit 15) counts frames, where 29 means 30000/1001 a second, and knows no tempo.
    """
    if division & 0x8000:
        frames = 256 - (division >> 8)
        return ticks / ((30000 / 1001 if frames == 29 else frames) * (division & 0xFF))
    changes = [(0, 500_000), *sorted((t for t in tempi if t[1] > 0), key=lambda t: t[0])]
    at = np.array([t[0] for t in changes], dtype=np.int64)
    per_tick = np.array([t[1] for t in changes]) / (1e6 * division)
    base = np.concatenate([[0.0], np.cumsum(np.diff(at) * per_tick[:-1])])
    segment = np.searchsorted(at, ticks, side="right") - 1
    return base[segment] + (ticks - at[segment]) * per_tick[segment]


def _damage(track: TrackEvents) -> list[str]:
    """What was wrong with a track, a line each."""
    lines = [track.damage] if track.damage else []
    for n, one, many in (
        (track.n_bad, "a data byte above 127", "data bytes above 127"),
        (track.n_undefined, "an undefined status byte", "undefined status bytes"),
    ):
        if n:
            lines.append(f"1 event with {one} was left out" if n == 1 else f"{n} events with {many} were left out")
    if track.n_late:
        notes = "1 note stands" if track.n_late == 1 else f"{track.n_late} notes stand"
        lines.append(f"{notes} behind an end of track in its middle, and {'is' if track.n_late == 1 else 'are'} played")
    if track.n_left_out:
        lines.append(f"{track.n_left_out} bytes behind an end of track in its middle cannot be read, and were left out")
    return lines


class _DamageError(Exception):
    """Where reading a track has to stop, and why."""


def _read_track(data: bytes, declared_size: int, is_sure: bool, names: _Names) -> TrackEvents:
    """The events of one chunk up to its end-of-track event, its last byte or where no event can begin.

    If the length of the chunk is sure and whole events with notes follow an end of track, they belong to the piece:
    programs that merge tracks leave such ends in the middle, one or several.
    """
    events, texts = TrackEvents(), _Texts()
    tick, position, has_ended, port = _read_events(data, 0, 0, 0, events, texts, names)
    if not has_ended and not events.damage and len(data) < declared_size:
        events.damage = f"damaged at byte {len(data)} (cut off); 0 bytes behind it were left out"
    waiting: list[TrackEvents] = []  # behind an end, without a note so far
    end, messages, tick_after = min(len(data), declared_size), events.messages, tick
    while has_ended and is_sure and position < end:
        late, begin = TrackEvents(messages=list(messages)), position
        tick_after, position, has_ended, port = _read_events(data, position, tick_after, port, late, texts, names)
        n_notes = int(_starts(late.table()).sum())
        if late.damage or (not has_ended and (late.n_bad or late.n_undefined)):
            events.n_left_out = end - begin if n_notes else 0
            break
        waiting.append(late)
        messages = late.messages
        if n_notes:
            tick = tick_after
            for part in waiting:
                events.rows.extend(part.rows)
                events.tempi += part.tempi
                events.meters += part.meters
                events.n_bad += part.n_bad
                events.n_undefined += part.n_undefined
            waiting.clear()
            events.messages, events.n_late = messages, events.n_late + n_notes
    events.rows.extend((tick, META, 16 * port, 0, 0))
    names.names.append(texts.name or texts.instrument)
    events.names_port = texts.has_port
    return events


@dataclass
class _Texts:
    """The names that one track gives itself."""

    name: bytes = b""
    instrument: bytes = b""
    number: int = 0  # FF 21
    device: bytes = b""  # FF 09
    has_port: bool = False


def _read_events(
    data: bytes, position: int, tick: int, port: int, events: TrackEvents, texts: _Texts, names: _Names
) -> tuple[int, int, bool, int]:
    """Appends the events from a position on; gives the tick, the position and the port where it stopped, and whether
    that was an end of track.

    System-exclusive messages may come in several events, the first F0, the others F7 (RP-001). A message whose F7 is
    missing ends at the next status byte, as it does on a cable: at one inside of it, or at the next event.
    """
    flat: list[int] = []  # what becomes events.rows
    rows, size = flat.extend, len(data)
    running = 0  # the status byte that events without one repeat; only channel messages set it
    packet, packet_tick = b"", 0
    event_at, has_ended = position, False
    try:
        while position < size:
            event_at = position
            byte = data[position]
            position += 1
            delta = byte & 0x7F
            while byte > 127:
                byte = data[position]
                position += 1
                delta = delta << 7 | byte & 0x7F
            if delta > _LONGEST_DELTA:
                raise _DamageError("a pause longer than the format allows")
            status = data[position]
            if status < 0x80:
                if not running:
                    raise _DamageError("a data byte where an event should begin")
                status = running
            else:
                position += 1
            if status < SYSEX:
                if packet:
                    rows((packet_tick, SYSEX, 16 * port, len(events.messages), 0))
                    events.messages.append(packet)
                    packet = b""
                first = second = data[position]
                position += 1
                if status & 0xE0 != 0xC0:  # all but programs and channel pressure have two
                    second = data[position]
                    position += 1
                tick += delta
                running = status
                if (first | second) < 0x80:
                    rows((tick, status & 0xF0, 16 * port + (status & 0x0F), first, second))
                else:
                    events.n_bad += 1
                continue
            if status in (SYSEX, 0xF7, META):
                kind = status
                if status == META:
                    kind = data[position]
                    position += 1
                length, byte = 0, 0x80
                while byte > 127:
                    byte = data[position]
                    position += 1
                    length = length << 7 | byte & 0x7F
                payload = data[position : position + length]
                if len(payload) < length:
                    raise _DamageError("cut off")
                position += length
                tick += delta
                if status == META:
                    if kind == _META_END:
                        has_ended = True
                        break
                    if kind == _META_TEMPO and length == 3:
                        events.tempi.append((tick, int.from_bytes(payload)))
                    elif kind == _META_METER and length >= 2 and payload[0] and payload[1] < 8:
                        events.meters.append((tick, payload[0], 2 ** payload[1]))
                    elif kind in (_META_PORT, _META_DEVICE):
                        port = _port(kind, payload, texts, names)
                    elif kind <= 0x0F:
                        _keep_text(kind, payload, texts, names)
                    continue
                if status == SYSEX or not packet:
                    if packet:
                        rows((packet_tick, SYSEX, 16 * port, len(events.messages), 0))
                        events.messages.append(packet)
                    packet, packet_tick = b"", tick
                    payload = payload.removeprefix(b"\xf0")
                length = next((i for i, byte in enumerate(payload) if byte > 127), -1)
                packet += payload if length < 0 else payload[:length]
                if length >= 0 and packet:
                    rows((tick, SYSEX, 16 * port, len(events.messages), 0))
                    events.messages.append(packet)
                    packet = b""
                continue
            tick += delta  # system common and real-time messages have no place in a file, and no effect
            position += _N_COMMON_BYTES.get(status, 0)
            events.n_undefined += status in _UNDEFINED
    except (IndexError, _DamageError) as error:
        reason = "cut off" if isinstance(error, IndexError) else str(error)
        events.damage = f"damaged at byte {event_at} ({reason}); {size - event_at} bytes behind it were left out"
    if packet:
        rows((tick, SYSEX, 16 * port, len(events.messages), 0))
        events.messages.append(packet)
    events.rows.extend(flat)
    return tick, position, has_ended, port


def _port(kind: int, payload: bytes, texts: _Texts, names: _Names) -> int:
    """The port that a track goes to from here on, a sound module of its own: FF 21 gives a number, FF 09 the name of a
    device (RP-019). Tracks that name no device go with the first that is named."""
    texts.has_port = True
    if kind == _META_DEVICE:
        texts.device = payload
    elif payload:
        texts.number = payload[0]
    if not texts.device:
        return texts.number
    key = (texts.number, texts.device)
    first_device = next(iter(names.ports), key)[1]
    if texts.device == first_device:
        names.ports.setdefault(key, texts.number)
    return names.ports.setdefault(key, 256 + len(names.ports))


def _spread_settings(tracks: list[TrackEvents]) -> None:
    """Settings in tracks that name no port go to port 0. If nothing is played there, they were meant for the ports
    where something is: sequencers leave their setting-up track without a port."""
    if not any(track.names_port for track in tracks):
        return
    tables = [track.table() for track in tracks]
    ports = sorted({lane // 16 for table in tables for lane in table[_starts(table), 2].tolist()})
    if not ports or ports[0] == 0:
        return
    for track, table in zip(tracks, tables, strict=True):
        if not track.names_port:
            rows = np.repeat(table, len(ports), axis=0)
            rows[:, 2] += 16 * np.tile(ports, len(table))
            track.rows = array("q", rows.ravel().tolist())


def _starts(table: np.ndarray) -> Flags:
    """Which rows are notes that begin."""
    begins: Flags = (table[:, 1] == NOTE_ON) & (table[:, 4] > 0)
    return begins


def _keep_text(kind: int, payload: bytes, texts: _Texts, names: _Names) -> None:
    if kind == _META_NAME:
        texts.name = payload if payload.strip(b" \0\r\n\t") else texts.name
    elif kind == _META_INSTRUMENT:
        texts.instrument = texts.instrument or payload
    if not payload.isascii() and len(names.others) < 1000:
        names.others.append(payload)
