"""From stems to rows: the desk, the room and the excerpt that was asked for, each stage ahead of the next."""

import atexit
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from miao.bank.bank import Bank
from miao.bank.frames import seconds_to_sample
from miao.errors import MiaoError
from miao.midi.score import Score
from miao.sound.chorus import USUAL as USUAL_CHORUS
from miao.sound.chorus import Chorus
from miao.sound.desk import Desk, is_silent
from miao.sound.room import USUAL_PARTITION_SAMPLES, Acoustics, DrawnRoom, Room
from miao.sound.rooms import AnyRoom, changed, find_room
from miao.sound.shelf import Shelf
from miao.synth.player import Block
from miao.synth.settings import PlaySettings, span
from miao.synth.stems import block_samples, stream_stems

ROOM_LEVEL = 0.5  # General MIDI's usual reverb send, 40 / 127, becomes a room 16 dB below the sound
REMEMBERED = 0.65  # of the room's tail: what was sent before is then 48 dB down, and 60 dB below what sounds
FADE_SECONDS = 0.01  # where an excerpt is cut out of the sound
PATIENCE_SECONDS = 1.0  # with a stage that is interrupted
_LOOK_SECONDS = 0.1  # so often a stage that waits looks whether it is still wanted
SILENCE = 1e-6  # of full scale; when all has fallen below, it is over

LONGEST_SILENCE_SECONDS = 600.0  # behind the music, for who asks for a later end
_SILENT_BLOCK = 1 << 17
_PARTITION_SAMPLES = 1 << 15  # of the room, where blocks are no shorter
_SEARCHED_SAMPLES = 1 << 12
# General MIDI 2's reverb types: a room, and its time in seconds; large hall is the usual room
ROOMS = {
    "small room": ("club", 1.1), "medium room": ("chamber", 1.3), "large room": ("chamber", 1.5),
    "medium hall": ("hall", 1.8), "plate": ("plate", 1.3),
}  # fmt: skip

T = TypeVar("T")


def rows_of(
    bank: Bank, score: Score, settings: PlaySettings, voices: Mapping[int, int], with_stems: bool
) -> Iterator[np.ndarray]:
    """What comes from the desk, f4[R, 2, n] a block: the stems and their effects, or only their sum (R = 1).

    Without an end the sound goes on until all has died away, and at least to where the file ends: a rest is part of the
    piece. Raises: MiaoError at the end if nothing sounded.
    """
    is_silent = True
    for part in (_looped if settings.loop else _stretch)(bank, score, settings, voices, with_stems):
        is_silent = is_silent and not part.any()
        yield part
    if is_silent:
        raise MiaoError(f"nothing sounds {span(settings.start, settings.end)}; look at its volumes and programs")


def stem_places(score: Score) -> list[int]:
    """For each track which stem it is part of, from 0; tracks that are one instrument (MPE) share theirs."""
    places: dict[tuple[str, int], int] = {}
    keys = [("track", i) if track.stem is None else ("stem", track.stem) for i, track in enumerate(score.tracks)]
    return [places.setdefault(key, len(places)) for key in keys]


def _stretch(
    bank: Bank, score: Score, settings: PlaySettings, voices: Mapping[int, int], with_stems: bool, is_faded: bool = True
) -> Iterator[np.ndarray]:
    """The sound from start to end; only that is made, and before it as much as the room still tells of."""
    partition = min(_PARTITION_SAMPLES, block_samples(len(score.tracks)))
    room = room_with(settings.sample_rate, acoustics_of(score, settings), partition)
    tail_seconds = 0.0 if room is None else room.n_tail / settings.sample_rate
    remembered = REMEMBERED if is_faded else 1.0  # what lies over a loop's beginning is to fit without a seam
    begin = max(settings.start - remembered * tail_seconds, 0.0)
    blocks = stream_stems(bank, score, settings, voices=voices, start=begin)
    rows = ahead(_mixed(ahead(blocks, 1), score, room, settings.sample_rate, with_stems))
    if settings.end is None or settings.end >= score.duration:
        rows = _trimmed(rows)
    n_made = 0
    for part in _excerpt(rows, settings, begin, FADE_SECONDS if is_faded else 0.0):
        n_made += part.shape[2]
        yield part
    end = score.end if settings.end is None else min(settings.end, score.duration + LONGEST_SILENCE_SECONDS)
    n_rows = max(stem_places(score)) + 2 if with_stems else 1
    n_missing = round((end - settings.start) * settings.sample_rate) - n_made
    for first in range(0, n_missing, _SILENT_BLOCK):
        shape = (n_rows, 2, min(_SILENT_BLOCK, n_missing - first))
        yield np.broadcast_to(np.float32(0), shape)  # without memory


def _looped(
    bank: Bank, score: Score, settings: PlaySettings, voices: Mapping[int, int], with_stems: bool
) -> Iterator[np.ndarray]:
    """The sound from start to exactly the end, and what sounds on behind it laid over the beginning: played again and
    again, it has no seam."""
    stop = max(score.end, score.duration) if settings.end is None else settings.end
    n_loop = round((stop - settings.start) * settings.sample_rate)
    tracks = [replace(track, notes=track.notes[track.notes["start"] < stop]) for track in score.tracks]
    score = replace(score, tracks=tuple(tracks), end=0.0)
    behind = replace(settings, start=stop, end=None)
    tail = list(_stretch(bank, score, behind, voices, with_stems, is_faded=False))
    n_tail = sum(part.shape[2] for part in tail)
    n_rows = max(stem_places(score)) + 2 if with_stems else 1
    folded, at = np.zeros((n_rows, 2, min(n_tail, n_loop)), np.float32), 0
    for part in tail:
        while part.shape[2]:
            n = min(part.shape[2], n_loop - at)
            folded[:, :, at : at + n] += part[:, :, :n]
            part, at = part[:, :, n:], (at + n) % n_loop
    begin = 0
    for part in _stretch(bank, score, replace(settings, end=stop), voices, with_stems, is_faded=False):
        over = folded[:, :, begin : begin + part.shape[2]]
        if over.shape[2]:
            part = np.array(part)
            part[:, :, : over.shape[2]] += over
        begin += part.shape[2]
        yield part


def acoustics_of(score: Score, settings: PlaySettings) -> AnyRoom | None:
    """The room wished for; else the one that the file asks for by General MIDI 2's name, as near as there is one, else
    the usual one. None: no room."""
    acoustics: AnyRoom | None
    if settings.room is None:
        name, seconds = ROOMS.get(score.room or "", (None, None))
        acoustics = DrawnRoom() if name is None else changed(find_room(name), seconds)
    else:
        acoustics = find_room(settings.room) if isinstance(settings.room, str | Path) else settings.room
    return changed(acoustics, settings.t60, settings.wet)


def room_with(
    sample_rate: int, acoustics: Acoustics | None, partition_samples: int = USUAL_PARTITION_SAMPLES
) -> Room | None:
    """A silent room, if there is to be one."""
    return None if acoustics is None else Room(sample_rate, acoustics, partition_samples)


def _mixed(
    blocks: Iterator[Block], score: Score, room: Room | None, sample_rate: int, with_stems: bool
) -> Iterator[np.ndarray]:
    """Each stem behind its faders, and room and chorus; goes on until they are silent."""
    desk = Desk(sample_rate, len(score.tracks), ("reverb", "chorus"))
    chorus = Chorus(sample_rate, score.chorus or USUAL_CHORUS)
    stems = stem_places(score) if with_stems else [0] * len(score.tracks)
    n_rows, shelf = max(stems) + 2 if with_stems else 1, Shelf()
    for block in blocks:
        for step in block.steps:
            desk.set(*step)
        rows = shelf.lend_silent(n_rows, 2, block.stems.shape[2])
        sent = desk.add(block.start_sample, block.stems, block.busy, block.extra, rows, stems)
        if room is not None:
            rows[-1] += room.process(np.float32(ROOM_LEVEL) * sent["reverb"])
        chorus.position = block.start_sample
        if not (chorus.is_silent and is_silent(sent["chorus"])):
            rows[-1] += chorus.process(sent["chorus"])
        yield rows
    tails = [
        np.zeros((2, 0), np.float32) if room is None else room.tail(),
        *([] if chorus.is_silent else [chorus.tail()]),
    ]
    rows = np.zeros((n_rows, 2, max(tail.shape[1] for tail in tails)), np.float32)
    for tail in tails:
        rows[-1, :, : tail.shape[1]] += tail
    yield rows


def ahead(items: Iterable[T], n: int = 2) -> Iterator[T]:
    """The same items, made on a thread of their own up to ``n`` of them ahead; what goes wrong there goes wrong here.

    NumPy and the nets let other threads run while they work, so that stages behind each other share the cores.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(n)
    is_enough = threading.Event()

    def offer(entry: tuple[bool, object]) -> None:
        while not is_enough.is_set():
            with suppress(queue.Full):
                return waiting.put(entry, timeout=_LOOK_SECONDS)

    def work() -> None:
        try:
            for item in items:
                offer((True, item))
                if is_enough.is_set():
                    break
            if isinstance(items, Generator):
                items.close()
            offer((False, None))
        except BaseException as error:  # KeyboardInterrupt too: whoever waits must hear of it
            offer((False, error))

    worker = threading.Thread(target=work, daemon=True)
    _at_work[worker] = is_enough, waiting
    worker.start()
    try:
        while True:
            is_item, value = waiting.get()
            if is_enough.is_set():  # what would follow on an end, such as a room's tail, must not be made now
                raise RuntimeError("Python ends, and nothing more is made")
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        is_enough.set()
        worker.join(PATIENCE_SECONDS)  # it stops after what it is making now
        _at_work.pop(worker, None)


_at_work: dict[threading.Thread, tuple[threading.Event, "queue.Queue[Any]"]] = {}  # the threads of `ahead`


@atexit.register
def _stop_all() -> None:
    """Nobody will ask for more. A thread that compiled code is running in must not be there when Python ends."""
    for is_enough, waiting in list(_at_work.values()):
        is_enough.set()
        with suppress(queue.Full):
            waiting.put_nowait((False, None))  # for who waits there
    for worker in list(_at_work):
        worker.join(PATIENCE_SECONDS)


def _trimmed(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The stream up to its last sound."""
    held: list[np.ndarray] = []
    for rows in blocks:
        end = _last_sound(rows)
        if not end:
            held.append(np.broadcast_to(np.float32(0), rows.shape))  # without memory: a pause may last an hour
            continue
        yield from held
        yield rows[:, :, :end]
        held = [rows[:, :, end:]]


def _last_sound(rows: np.ndarray) -> int:
    """How many samples of [R, 2, n] there are up to the last that is no silence; looked for from behind, as most blocks
    sound to their end."""
    for stop in range(rows.shape[2], 0, -_SEARCHED_SAMPLES):
        first = max(stop - _SEARCHED_SAMPLES, 0)
        loud = np.flatnonzero(np.abs(rows[:, :, first:stop]).max(axis=(0, 1)) > SILENCE)
        if len(loud):
            return first + int(loud[-1]) + 1
    return 0


def _excerpt(
    blocks: Iterator[np.ndarray], settings: PlaySettings, begins: float, fade_seconds: float
) -> Iterator[np.ndarray]:
    """The samples [start, end) of a stream that begins before, faded where it goes on beyond."""
    rate = settings.sample_rate
    first, last = round(settings.start * rate), np.inf if settings.end is None else round(settings.end * rate)
    fade, begin = fade_seconds * rate, int(seconds_to_sample(begins, rate))
    for rows in blocks:
        stop = begin + rows.shape[2]
        if min(stop, last) > max(first, begin):
            inside = np.arange(max(first, begin), min(last, stop), dtype=np.int64)
            part = rows[:, :, inside[0] - begin : inside[-1] + 1 - begin]
            if fade and first and inside[0] < first + fade:
                part = part * np.minimum((inside - first) / fade, 1).astype(np.float32)
            if fade and inside[-1] > last - fade:
                part = part * np.minimum((last - inside) / fade, 1).astype(np.float32)
            yield part
        begin = stop
        if begin >= last:
            return
