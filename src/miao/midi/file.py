"""Standard MIDI Files as bytes: chunks and events, before anyone says what they mean.

mido reads the parts of an event (variable-length numbers, lengths, data bytes); the walk over chunks and events is
ours, because mido's own gives up a whole file at its first bad byte, and because one Message object per event makes
a million notes ten times slower. Here damage costs what is behind it in its own track, and is counted.
"""

import struct
from array import array
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from mido.messages import SPEC_BY_STATUS
from mido.midifiles.midifiles import read_byte, read_bytes, read_variable_int

from miao.errors import ScoreError

NOTE_OFF, NOTE_ON, KEY_PRESSURE, CONTROL, PROGRAM, PRESSURE, WHEEL = range(0x80, 0xF0, 0x10)
SYSEX, META = 0xF0, 0xFF
_META_NAME, _META_INSTRUMENT, _META_PORT, _META_END, _META_TEMPO, _META_METER = 0x03, 0x04, 0x21, 0x2F, 0x51, 0x58
_LONGEST_PAUSE_SECONDS = 3600.0  # a damaged delta time can say days; no music pauses for an hour in all its tracks
_LONGEST_DELTA = 0x0FFFFFFF  # four bytes of seven bits, the most that the format allows


@dataclass
class TrackEvents:
    """The events of one MTrk chunk; the last one is the end of the track (META)."""

    name: str = ""
    # of each event, flat: tick since the start of the track; NOTE_OFF to WHEEL, SYSEX or META; lane, which is
    # 16 x port + channel; two data bytes, 0 to 127 (of SYSEX the first is the index of its message)
    rows: array = field(default_factory=lambda: array("q"))
    messages: list[bytes] = field(default_factory=list)  # system exclusive, without the F0 and F7 around it
    tempi: list[tuple[int, int]] = field(default_factory=list)  # (tick, microseconds per quarter note)
    meters: list[tuple[int, int, int]] = field(default_factory=list)  # (tick, numerator, denominator)
    n_bad: int = 0  # events left out because a data byte was above 127
    damage: str = ""  # why reading stopped early, if it did

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


def parse_midi_file(data: bytes, name: str) -> MidiFile:
    """The events of a Standard MIDI File, bare, inside a RIFF (RMID), or with other bytes in front of it.

    What is damaged is left out and named in `warnings`: a track is read up to its first bad byte, a chunk whose
    length is wrong up to its end-of-track event or the next track, an event with a data byte above 127 is skipped, and
    what comes after a pause of more than an hour in all tracks is dropped.
    `name` is what error messages call the file. Raises: ScoreError if there is no header or no track at all.
    """
    if not data:
        raise ScoreError(f"{name}: the file is empty")
    start = data.find(b"MThd")
    if start < 0 or len(data) < start + 14:
        raise ScoreError(f"{name}: not a MIDI file (no complete MThd header in {len(data)} bytes)")
    data = data[start : start + _riff_data_size(data, start)]
    header_size, kind, n_tracks, division = struct.unpack(">IHHH", data[4:14])
    if (division & 0x7FFF if division < 0x8000 else division & 0xFF) == 0:
        raise ScoreError(f"{name}: the header gives 0 ticks per beat, so no event has a time")
    tracks, warnings = [], []
    if kind > 2:
        warnings.append(f"the header says type {kind}, which does not exist; read as type 1")
        kind = 1
    position = 8 + header_size if data[8 + header_size : 12 + header_size] == b"MTrk" else data.find(b"MTrk")
    while 0 <= position <= len(data) - 8:
        tag, size = struct.unpack(">4sI", data[position : position + 8])
        end = position + 8 + size
        if end != len(data) and not data[end : end + 4].isalpha():  # the length is wrong: trust the next track's tag
            end = data.find(b"MTrk", position + 8)
            end = len(data) if end < 0 else end
        if tag == b"MTrk":
            tracks.append(_read_track(data[position + 8 : end], size))
        position = end
    if not tracks:
        raise ScoreError(f"{name}: a MIDI header but no track behind it; the file is damaged or cut off")
    if len(tracks) < n_tracks:
        warnings.append(f"{n_tracks - len(tracks)} of {n_tracks} tracks are missing")
    for number, track in enumerate(tracks, start=1):
        if track.damage:
            warnings.append(f"track {number}: {track.damage}")
        if track.n_bad:
            events = (
                "1 event with a data byte above 127 was"
                if track.n_bad == 1
                else (f"{track.n_bad} events with data bytes above 127 were")
            )
            warnings.append(f"track {number}: {events} left out")
    for group in [[track] for track in tracks] if kind == 2 else [tracks]:
        n_late = _cut_at_a_long_pause(group, division)
        if n_late:
            warnings.append(f"{n_late} event{'s' * (n_late > 1)} behind a pause of more than an hour were left out")
    return MidiFile(kind, division, tuple(tracks), tuple(warnings))


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


def _cut_at_a_long_pause(tracks: list[TrackEvents], division: int) -> int:
    """Drops what tracks that play together hold behind their first too long pause, and says how many events."""
    tempi = [tempo for track in tracks for tempo in track.tempi]
    ticks = np.unique(np.concatenate([*(t.table()[:, 0] for t in tracks), np.array([0, *(t for t, _ in tempi)])]))
    pauses = np.flatnonzero(np.diff(seconds_at(ticks, division, tempi)) > _LONGEST_PAUSE_SECONDS)
    if not len(pauses):
        return 0
    last, n_dropped = int(ticks[pauses[0]]), 0
    for track in tracks:
        n_kept = int(np.searchsorted(track.table()[:, 0], last, side="right"))
        if n_kept < len(track.rows) // 5:
            n_dropped += len(track.rows) // 5 - n_kept - 1  # the end of the track is no loss
            track.rows = track.rows[: 5 * n_kept]
            track.rows.extend((last, META, 0, 0, 0))
        track.tempi = [tempo for tempo in track.tempi if tempo[0] <= last]
    return n_dropped


def _riff_data_size(data: bytes, start: int) -> int:
    """How many bytes from the MThd at `start` belong to the MIDI file: a RIFF may hold a sound bank behind it."""
    size = 0
    if data[:4] == b"RIFF" and data[start - 8 : start - 4] == b"data":
        size = struct.unpack("<I", data[start - 4 : start])[0]
    return size if size > 14 else len(data) - start


def _read_track(data: bytes, declared_size: int) -> TrackEvents:
    """The events of one chunk up to its end-of-track event, its last byte or its first damaged event."""
    events = TrackEvents()
    stream = BytesIO(data)
    tick = port = event_at = 0
    running = None  # the status byte that events without one repeat; only channel messages set it
    packet = b""  # a system-exclusive message may come in several events
    try:
        while (event_at := stream.tell()) < len(data):
            delta = read_variable_int(stream)
            if delta > _LONGEST_DELTA:
                raise OSError("a pause longer than the format allows")
            status = read_byte(stream)
            if status == META:
                kind = read_byte(stream)
                payload = bytes(read_bytes(stream, read_variable_int(stream)))
                tick += delta
                if kind == _META_END:
                    break
                if kind == _META_TEMPO and len(payload) == 3:
                    events.tempi.append((tick, int.from_bytes(payload)))
                elif kind == _META_METER and len(payload) >= 2 and payload[0] and payload[1] < 8:
                    events.meters.append((tick, payload[0], 2 ** payload[1]))
                elif kind == _META_PORT and payload:
                    port = 16 * payload[0]
                elif kind == _META_NAME or (kind == _META_INSTRUMENT and not events.name):
                    events.name = _decode_text(payload) or events.name
            elif status in (SYSEX, 0xF7):
                payload = bytes(read_bytes(stream, read_variable_int(stream)))
                tick += delta
                packet = payload.removeprefix(b"\xf0") if status == SYSEX or not packet else packet + payload
                if packet.endswith(b"\xf7"):
                    events.rows.extend((tick, SYSEX, port, len(events.messages), 0))
                    events.messages.append(packet[:-1])
                    packet = b""
            else:
                head: list = []
                if status < 0x80:
                    if running is None:
                        raise OSError("a data byte where an event should begin")
                    head, status = [status], running
                values = head + read_bytes(stream, SPEC_BY_STATUS[status]["length"] - 1 - len(head))
                tick += delta
                if status > SYSEX:  # system common and real-time messages have no place in a file, and no effect
                    continue
                running = status
                if max(values) > 127:
                    events.n_bad += 1
                else:
                    events.rows.extend((tick, status & 0xF0, port + (status & 0x0F), values[0], values[-1]))
        else:
            if len(data) < declared_size:
                raise EOFError
    except (EOFError, OSError, LookupError) as error:
        reason = {EOFError: "cut off", KeyError: "an undefined status byte"}.get(type(error), str(error))
        events.damage = f"damaged at byte {event_at} ({reason}); {len(data) - event_at} bytes behind it were left out"
    events.rows.extend((tick, META, port, 0, 0))
    return events


def _decode_text(payload: bytes) -> str:
    """A name as text: UTF-8 where it is valid, else Latin-1; one line, without control characters."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        text = payload.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
