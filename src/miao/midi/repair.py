"""What must know the future, done over a file's events before they are played: order, lost note-offs, bogus pauses.

A sound module takes events as they come. A file can be looked at as a whole: settings that stand in another track at
the tick of a note were meant for it, a note whose note-off was lost ends with the music, and what a damaged pause has
thrown days away is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from miao.arrays import Flags, Integers, distinct
from miao.midi.events import CONTROL, META, NOTE_OFF, NOTE_ON, SYSEX
from miao.midi.exclusive import settings
from miao.midi.file import TrackEvents, seconds_at

LONGEST_PAUSE_SECONDS = 3600.0  # a damaged delta time can say days; no music pauses for an hour in all its tracks
LONGEST_PAUSE_IN_DAMAGE_SECONDS = 120.0  # nor for this long before what only damaged tracks hold
OPEN_SECONDS, OPEN_SECONDS_IN_DAMAGE = 30.0, 4.0  # a note that never ends outlasts other notes by no longer pause


@dataclass(frozen=True)
class Events:
    """The events of tracks that play together, in the order in which they are played."""

    table: np.ndarray  # int64 [E, 5]: tick, kind, lane, two data bytes (of SYSEX the first is the index of its message)
    tracks: np.ndarray  # int64 [E], which track an event stands in
    seconds: np.ndarray  # float64 [E]
    n_unended: int = 0  # notes that had no end and got one


def cut_at_a_long_pause(tracks: list[TrackEvents], division: int) -> tuple[int, str]:
    """Drops what tracks that play together hold behind their first too long pause; gives how many events, and how long
    a pause is too long."""
    tempi = [tempo for track in tracks for tempo in track.tempi]
    ticks = distinct(np.concatenate([*(t.table()[:, 0] for t in tracks), np.array([0, *(t for t, _ in tempi)])]))
    sound = [track.table() for track in tracks if not track.is_damaged]
    sound_end = max((int(table[table[:, 1] != META, 0].max(initial=0)) for table in sound), default=0)
    pauses = np.diff(seconds_at(ticks, division, tempi))
    too_long = pauses > LONGEST_PAUSE_SECONDS
    if len(sound) < len(tracks):
        too_long |= (pauses > LONGEST_PAUSE_IN_DAMAGE_SECONDS) & (ticks[:-1] >= sound_end)
    if not too_long.any():
        return 0, ""
    place = int(too_long.argmax())
    limit = "an hour" if pauses[place] > LONGEST_PAUSE_SECONDS else "two minutes, in a damaged track,"
    last, n_dropped = int(ticks[place]), 0
    for track in tracks:
        n_kept = int(np.searchsorted(track.table()[:, 0], last, side="right"))
        if n_kept < len(track.rows) // 5:
            n_dropped += len(track.rows) // 5 - n_kept - 1  # the end of the track is no loss
            track.rows = track.rows[: 5 * n_kept]
            track.rows.extend((last, META, 0, 0, 0))
        track.tempi = [tempo for tempo in track.tempi if tempo[0] <= last]
    return n_dropped, limit


def merge(tracks: Sequence[TrackEvents], clock: Callable[[np.ndarray], np.ndarray]) -> Events:
    """The events of tracks that share their channels, by time; `clock` turns ticks into seconds.

    Tracks play at once: what stands at one tick before the first note of its track comes before the notes of all
    tracks, and system-exclusive messages at the head of a track come before that. Otherwise tracks come in order, each
    in the order of the file.
    """
    table = np.concatenate([track.table() for track in tracks])
    sources = np.repeat(np.arange(len(tracks)), [len(track.rows) // 5 for track in tracks])
    ticks, kinds = table[:, 0], table[:, 1]
    group = np.cumsum(np.append(0, (np.diff(ticks) != 0) | (np.diff(sources) != 0)))  # of one track at one tick
    rank = np.where(kinds == SYSEX, 0, np.where((kinds == NOTE_ON) & (table[:, 4] > 0), 2, 1))
    rank = np.maximum.accumulate(4 * group + rank) & 3
    order = np.argsort(4 * ticks + rank, kind="stable")
    return Events(table[order], sources[order], clock(ticks[order]))


def end_the_unended(events: Events, messages: Sequence[Sequence[bytes]], damaged: Sequence[bool]) -> Events:
    """The same with a note-off for each note that has none.

    If a note-off was lost, giving each one to the oldest note shifts all that follow on this key by one; so here
    they go to the latest note-on before them. A note that is left over ends at the next start of its key in its track,
    or with its track, or earlier where the music ends: where nothing has been played for 30 s, or 4 s if the
    track is damaged, as its pauses cannot be trusted then. `messages` and `damaged` are by track.
    """
    table, tracks, seconds = events.table, events.tracks, events.seconds
    kinds = table[:, 1]
    is_on = (kinds == NOTE_ON) & (table[:, 4] > 0)
    rows = np.flatnonzero(is_on | (kinds == NOTE_ON) | (kinds == NOTE_OFF))
    keys = table[rows, 2] * 128 + table[rows, 3]
    n_tracks = max(len(damaged), 1)
    owners = _keys_with_open_notes(keys * n_tracks + tracks[rows], is_on[rows])  # (key, track) as one number
    suspects = distinct(owners // n_tracks)
    if not len(suspects):
        return events
    begun = _first_notes(table, tracks, is_on)
    releases = _releases(table, tracks, messages, {int(key) // 128 for key in suspects})
    track_ends = np.zeros(len(damaged))
    track_ends[tracks[kinds == META]] = seconds[kinds == META]
    music = {limit: _Music(seconds[rows], limit) for limit in (OPEN_SECONDS, OPEN_SECONDS_IN_DAMAGE)}
    added: list[tuple[int, float, int, int, int]] = []  # (row to stand before, seconds, lane, pitch, track)
    by_key = rows[np.argsort(keys, kind="stable")]
    firsts, lasts = (np.searchsorted(np.sort(keys), suspects, side=side) for side in ("left", "right"))
    for key, first, last in zip(suspects.tolist(), firsts.tolist(), lasts.tolist(), strict=True):
        lane, pitch = key // 128, key % 128
        lines: list[tuple[int, bool | None, int]] = [*releases.get(lane, [])]
        lines += [(row, bool(is_on[row]), int(tracks[row])) for row in by_key[first:last].tolist()]
        lines.sort()
        for note, following in _left_over(lines, begun.get(lane, {})):
            track = int(tracks[note])
            if following >= 0:
                added.append((following, float(seconds[following]), lane, pitch, track))
                continue
            limit = OPEN_SECONDS_IN_DAMAGE if damaged[track] else OPEN_SECONDS
            end = music[limit].end(float(seconds[note]), float(track_ends[track]))
            added.append((max(int(np.searchsorted(seconds, end, side="right")), note + 1), end, lane, pitch, track))
    added.sort()
    places = [row for row, *_ in added]
    offs = np.array([(0, NOTE_OFF, lane, pitch, 0) for _, _, lane, pitch, _ in added], np.int64).reshape(-1, 5)
    return Events(
        np.insert(table, places, offs, axis=0),
        np.insert(tracks, places, [track for *_, track in added]),
        np.insert(seconds, places, [end for _, end, *_ in added]),
        len(added),
    )


def _keys_with_open_notes(keys: Integers, is_on: Flags) -> Integers:
    """The keys, by any numbers, on which more is struck than let go; a note-off that finds no note counts for none."""
    if not len(keys):
        return keys
    order = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.append(True, np.diff(keys[order]) > 0))
    steps = np.where(is_on[order], 1, -1)
    sums = np.cumsum(steps)
    before = (sums - steps)[firsts]  # what other keys have added up to
    lowest = np.minimum.reduceat(sums, firsts) - before
    total = np.append(sums[firsts[1:] - 1], sums[-1]) - before
    unfinished: Integers = keys[order][firsts][total - np.minimum(lowest, 0) > 0]
    return unfinished


def _first_notes(table: np.ndarray, tracks: np.ndarray, is_on: np.ndarray) -> dict[int, dict[int, int]]:
    """By lane and track, the row of the first note: from there on the track ends no notes of others."""
    rows = np.flatnonzero(is_on)
    _, firsts = np.unique(np.stack([table[rows, 2], tracks[rows]]), axis=1, return_index=True)
    found: dict[int, dict[int, int]] = {}
    for row in rows[firsts].tolist():
        found.setdefault(int(table[row, 2]), {})[int(tracks[row])] = row
    return found


def _releases(
    table: np.ndarray, tracks: np.ndarray, messages: Sequence[Sequence[bytes]], lanes: set[int]
) -> dict[int, list[tuple[int, bool | None, int]]]:
    """Where all keys of a lane come up by one message, as lines for `_left_over`."""
    found: dict[int, list[tuple[int, bool | None, int]]] = {lane: [] for lane in lanes}
    kinds, numbers = table[:, 1], table[:, 3]
    is_mode = (kinds == CONTROL) & ((numbers == 120) | (numbers >= 123))
    for row in np.flatnonzero(is_mode).tolist():
        if table[row, 2] in found:
            found[int(table[row, 2])].append((row, None, -1))
    for row in np.flatnonzero(kinds == SYSEX).tolist():
        message = messages[tracks[row]][numbers[row]]
        if any(setting[0] == "reset" for setting in settings(message)):
            for lane in lanes:
                if lane // 16 == table[row, 2] // 16:
                    found[lane].append((row, None, -1))
    return found


def _left_over(lines: list[tuple[int, bool | None, int]], begun: dict[int, int]) -> list[tuple[int, int]]:
    """Of the events of one key, (row, is on, track), the notes that have no end of their own, and the row of the next
    start in their track or -1. None for "is on" lets go all. A track in `begun` ends notes of others only up to that
    row, as in `module.Module`."""
    open_notes: list[tuple[int, int]] = []  # (row, track)
    ends: dict[int, int] = {}  # note -> row of its end
    track_of: dict[int, int] = {}
    for row, is_on, track in lines:
        if is_on is None:
            ends |= {note: row for note, _ in open_notes}
            open_notes.clear()
        elif is_on:
            open_notes.append((row, track))
            track_of[row] = track
        elif open_notes:
            place = next((i for i, note in enumerate(open_notes) if note[1] == track), -1)
            if place >= 0 or row < begun.get(track, row + 1):
                ends[open_notes.pop(max(place, 0))[0]] = row
    left: list[tuple[int, int]] = []
    for track in sorted({track for _, track in open_notes}):
        notes = [note for note, its in track_of.items() if its == track]
        waiting: list[int] = []
        for _, note in sorted([(note, note) for note in notes] + [(ends[note], -1) for note in notes if note in ends]):
            if note >= 0:
                waiting.append(note)
            else:
                waiting.pop()
        following = dict(pairwise(notes))
        left += [(note, following.get(note, -1)) for note in waiting]
    return left


class _Music:
    """Where notes are played, with pauses of at most so many seconds."""

    def __init__(self, note_seconds: np.ndarray, limit: float) -> None:
        self._limit = limit
        pauses = np.flatnonzero(np.diff(note_seconds) > limit)
        self._lasts = note_seconds[np.append(pauses, len(note_seconds) - 1)]  # the last event before each pause

    def end(self, start: float, track_end: float) -> float:
        """When a note from `start` on that is never let go has outlasted the music around it."""
        last = float(self._lasts[np.searchsorted(self._lasts, start)])
        if track_end <= last + self._limit:
            return max(track_end, start)
        return last if last > start else start + self._limit
