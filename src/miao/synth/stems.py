"""From a score to stems: the score is told to a player event by event, each in time for the block that it lies in."""

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Doubles, Integers
from miao.bank.bank import Bank
from miao.bank.frames import seconds_to_sample
from miao.bank.voices import DRUM_KEYS
from miao.midi.score import Score, Track
from miao.synth.envelope import MIDDLE, release_factor, setting
from miao.synth.note import MOST_RELEASE_SECONDS, RING_SECONDS, Strike
from miao.synth.parts import BEND_SMOOTHING_SECONDS
from miao.synth.player import Block, Player
from miao.synth.settings import PlaySettings

_MOST_BLOCK_BYTES = 6_400_000  # of all stems: more is slower, as no cache holds it, and several are on their way
_MOST_BLOCK_SAMPLES = 1 << 17  # 3 s at 44.1 kHz
_AHEAD_SECONDS, _AHEAD_NOTES = 20.0, 512  # chunks are written so far ahead of the samples, many of them side by side
FIRST_BLOCK_SAMPLES = 1 << 14  # so that something is heard soon; each of the next is as long as all before it
# what a note is struck with, in the order in which `ScoreFeed._strike` takes it
_STRUCK = ("program", "is_drum", "bank", "start", "pitch", "velocity", "tuning", "glide", "glide_seconds", "gain",
           "pan", "send")  # fmt: skip
_CONTROLS = ("volume", "expression", "pan", "reverb", "chorus", "brightness", "modulation", "soft", "pressure", "bend",
             "attack", "decay", "release")  # fmt: skip


class ScoreFeed:
    """Tells a player what a score plays from a moment on.

    Of what was before, it is told the notes that may still sound and where the controllers stand: from ``start`` on it
    sounds as if it had been played from the beginning. ``voices`` says of some tracks, by their place, which voice of
    the bank plays all of their notes, whatever the score says of programs and drums; ``kits`` which of these voices are
    drums.
    """

    def __init__(
        self, score: Score, start: float = 0.0, voices: Mapping[int, int] | None = None, kits: Collection[int] = ()
    ) -> None:
        self._voices = voices or {}
        self._found: dict[tuple[int, int, bool, int], int] = {}  # voices that notes have asked for
        self._n_tracks = len(score.tracks)
        notes = np.concatenate([track.notes for track in score.tracks])
        tracks = np.repeat(np.arange(self._n_tracks), [len(track.notes) for track in score.tracks])
        rings = notes["is_drum"] & ~np.isin(tracks, list(self._voices))
        rings |= np.isin(tracks, [track for track, voice in self._voices.items() if voice in kits])
        ends = np.where(rings, notes["start"] + RING_SECONDS + 1, notes["damp"] + _releases(score))
        kept = np.minimum(ends, notes["cut"] + 1) > start
        kept &= ~rings | np.isin(notes["pitch"], DRUM_KEYS)  # a kit has no other keys
        order = np.argsort(notes["start"][kept], kind="stable")
        self._notes, self._tracks, self._rings = notes[kept][order], tracks[kept][order], rings[kept][order]
        self._handles = np.full(len(order), -1, np.int64)
        self._by = {name: np.argsort(self._notes[name], kind="stable") for name in ("end", "damp", "cut")}
        self._done = {"start": 0, "end": 0, "damp": 0, "cut": 0, "control": 0, "press": 0}
        first = min([start, *self._notes["start"][:1]]) - BEND_SMOOTHING_SECONDS
        self._controls = _control_events(score.tracks, first)
        presses = [(float(e["time"]), i, int(e["pitch"]), float(e["value"]), bool(e["is_tuning"]))
                   for i, track in enumerate(score.tracks) for e in track.key_pressure]  # fmt: skip
        self._presses = sorted(presses)
        self._press_times = np.array([time for time, *_ in self._presses])

    @property
    def is_over(self) -> bool:
        """Whether all notes have been told; controllers behind the last of them are of no matter."""
        return self._done["start"] == len(self._notes)

    def ahead(self, until: float) -> float:
        """A moment behind another one, as far ahead as it is worth to know the notes that start."""
        after = int(np.searchsorted(self._notes["start"], until))
        last = after + _AHEAD_NOTES
        soon = float(self._notes["start"][last]) if last < len(self._notes) else math.inf
        return max(until, min(soon, until + _AHEAD_SECONDS if self._done["start"] else until))

    def tell(self, player: Player, until: float) -> None:
        """All that happens before a moment and has not been told yet."""
        times, parts, names, values = self._controls
        for n in self._next("control", times, until):
            player.control(int(parts[n]), _CONTROLS[names[n]], float(values[n]), max(float(times[n]), 0.0))
        for n in self._next("press", self._press_times, until):
            time, part, pitch, value, is_tuning = self._presses[n]
            (player.tune if is_tuning else player.press)(part, pitch, value, time)
        starts = self._next("start", self._notes["start"], until)
        some = slice(starts.start, starts.stop)
        columns = [self._notes[name][some].tolist() for name in _STRUCK]
        for n, track, rings, *note in zip(
            starts, self._tracks[some].tolist(), self._rings[some].tolist(), *columns, strict=True
        ):
            self._handles[n] = player.start(self._strike(player, track, rings, *note))
        for name, tell in (("end", player.lift), ("damp", player.release), ("cut", player.cut)):
            order = self._by[name]
            ends = self._notes[name]
            for place in self._next(name, ends[order], until):
                tell(int(self._handles[order[place]]), float(ends[order[place]]))

    def _strike(
        self, player: Player, track: int, rings: bool, program: int, is_drum: bool, bank: int, start: float,
        pitch: int, velocity: int, *rest: float,
    ) -> Strike:  # fmt: skip
        voice = self._voices.get(track)
        if voice is None:
            asked = program, pitch, is_drum, bank
            voice = self._found.get(asked)
            if voice is None:
                voice = self._found[asked] = player.voice(program, pitch, is_drum=is_drum, bank=bank)
        return Strike(start, track, voice, pitch, velocity / 127, rings, *rest)

    def _next(self, name: str, times: Doubles, until: float) -> range:
        """The places of the events of a kind, sorted by time, that lie before a moment and have not been told."""
        first = self._done[name]
        last = self._done[name] = max(first, int(np.searchsorted(times, until)))
        return range(first, last)


def _releases(score: Score) -> NDArray[np.float64]:
    """The most seconds that the release of each note may last, [n], all tracks one after another."""
    found = []
    for track in score.tracks:
        curve = track.controls.get("release")
        values = curve.at(track.notes["start"]) if curve is not None else np.zeros(len(track.notes)) + MIDDLE
        kinds, which = np.unique(values, return_inverse=True)
        found.append(np.array([max(release_factor(setting(value)), 1.0) for value in kinds])[which])
    return MOST_RELEASE_SECONDS * np.concatenate(found)


def _control_events(tracks: tuple[Track, ...], start: float) -> tuple[Doubles, Integers, Integers, Doubles]:
    """The steps of all controllers in order of time: times, tracks, which of `_CONTROLS`, values.

    Of those before ``start`` only the last of each counts.
    """
    found: list[tuple[AnyArray, ...]] = [(np.zeros(0), np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for i, track in enumerate(tracks):
        for k, name in enumerate(_CONTROLS):
            curve = track.controls.get(name)
            if curve is None:
                continue
            before = int(np.searchsorted(curve.times, start))
            times = np.concatenate([[-np.inf], curve.times[before:]])
            values = np.concatenate([[curve.values[before - 1] if before else curve.initial], curve.values[before:]])
            found.append((times, np.full(len(times), i), np.full(len(times), k), values))
    times, parts, names, values = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(times, kind="stable")
    return times[order], parts[order], names[order], values[order]


def lots_of(tracks: Iterable[Track]) -> list[int]:
    """The numbers by which a `Player` draws lots for tracks: none depends on the other tracks."""
    lots = []
    for track in tracks:
        start, pitch = (track.notes[0]["start"], track.notes[0]["pitch"]) if len(track.notes) else (0.0, 0)
        lots.append(track.channel + 16 * (round(float(start) * 1e6) * 128 + int(pitch)))
    return lots


def block_samples(n_tracks: int) -> int:
    """The samples of a block: a power of two, as many as fit into the bytes of a block."""
    times = _MOST_BLOCK_BYTES // (n_tracks * 2 * 4 * FIRST_BLOCK_SAMPLES)
    return min(FIRST_BLOCK_SAMPLES << max(times.bit_length() - 1, 0), _MOST_BLOCK_SAMPLES)


def stream_stems(
    bank: Bank,
    score: Score,
    settings: PlaySettings | None = None,
    *,
    voices: Mapping[int, int] | None = None,
    start: float = 0.0,
) -> Iterator[Block]:
    """The score's stems, block by block, from a moment (seconds) until the last note has died away.

    The first block is short, later ones have up to 131072 samples, fewer if there are many tracks. The same seed gives
    the same samples. ``variation`` lets repeated notes differ as the bank's distributions say, by a scale of half a
    level at the most.
    ``voices`` as in `ScoreFeed`. Settings of loudness and excerpt are no matter of the stems.
    """
    settings = settings or PlaySettings()
    feed = ScoreFeed(score, start, voices, bank.own_kits)
    position = int(seconds_to_sample(start, settings.sample_rate))
    player = Player(bank, lots_of(score.tracks), settings, position)
    pool = ThreadPoolExecutor(max(os.cpu_count() or 1, 1))
    try:
        pending, known, most = None, 0.0, block_samples(len(score.tracks))
        while not (feed.is_over and player.is_silent):
            # blocks begin and end where partitions of the room do
            n_samples = min(max(player.position - position, FIRST_BLOCK_SAMPLES), most)
            until = (player.position + n_samples) / settings.sample_rate
            if until > known:
                known = feed.ahead(until)
                feed.tell(player, known)
            following = player.begin(n_samples, pool, known)
            if pending is not None:
                yield pending.wait()
            pending = following
        if pending is not None:
            yield pending.wait()
    finally:
        pool.shutdown(cancel_futures=True)
