"""Some tracks of a score as they are played, with the sound of the last seconds kept: who only mixes it in another way
need not have it made again.

All blocks are kept until they are said to be behind the listener. One thread at a time makes new ones; any may read.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Floats
from miao.bank.bank import Bank
from miao.midi.score import Score, Track
from miao.synth.chunks import Known
from miao.synth.note import Strike
from miao.synth.parts import Part
from miao.synth.player import Block, Player
from miao.synth.settings import PlaySettings
from miao.synth.stems import ScoreFeed, lots_of

UNWANTED_SECONDS = 10.0  # for so long a track that nobody hears is played on: it may be wanted again
MOST_AT_ONCE = 32768  # samples
_NOT_PLAYED = -1


class Source:
    """Tracks, by the numbers that their listener knows them by, from a sample on, or what is ``chosen`` of them.

    ``voices`` says of some which voice of the bank plays them. ``known`` is as for a `Player`.
    """

    def __init__(
        self, bank: Bank, score: Score, tracks: Mapping[int, Track], chosen: Mapping[int, Track],
        settings: PlaySettings, voices: Mapping[int, int], start_sample: int, known: Known | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:  # fmt: skip
        self.tracks = dict(tracks)
        self.unwanted: dict[int, int] = {}  # tracks that nobody hears, and since which sample
        self.heard_until = start_sample  # what is behind it may be forgotten
        self._rate, self._pool = settings.sample_rate, pool
        self._places = {number: place for place, number in enumerate(tracks)}
        told = replace(score, tracks=tuple(chosen.values()))
        by_place = {self._places[number]: voice for number, voice in voices.items() if number in tracks}
        self._feed = ScoreFeed(told, start_sample / self._rate, by_place, bank.own_kits)
        self._player = Player(bank, lots_of(tracks.values()), settings, start_sample, known)
        self._told = _Told(self._player)
        self._made: tuple[Block, ...] = ()  # replaced, never changed: readers wait for nobody
        self._position = start_sample
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it, but what it has made already."""
        return self._feed.is_over and self._player.is_silent

    @property
    def is_done(self) -> bool:
        """Whether nobody will hear any more of it."""
        return len(self._told.resting) == len(self._places) or not self.sounds_after(self.heard_until)

    def sounds_after(self, sample: int) -> bool:
        """Whether anything may sound from a sample on."""
        return not self.is_over or any(_end(block) > sample for block in self._made[-1:])

    def has(self, number: int, track: Track, sample: int) -> bool:
        """Whether the sound of a track as it is to be played now is here, from a sample on."""
        mine = self.tracks.get(number)
        if mine is None or self._places[number] in self._told.resting:
            return False
        first = self._made[0].start_sample if self._made else self._position
        return first <= sample and is_played_alike(mine, track)

    def make(self, until: int, *, is_leisurely: bool = False) -> None:
        """Have everything up to a sample made; at leisure, notes that start later are written along with the others."""
        if self._position >= until:
            return
        with self._lock:
            while (begin := self._position) < until:
                n = min(until - begin, MOST_AT_ONCE)
                for number, since in self.unwanted.items():
                    if begin - since > UNWANTED_SECONDS * self._rate:
                        self._told.resting.add(self._places[number])
                end = (begin + n) / self._rate
                known = self._feed.ahead(end) if is_leisurely else 0.0
                self._feed.tell(self._told, max(end, known))  # type: ignore[arg-type]  # all of a player that it asks
                if self.is_over:
                    self._player.position, self._position = until, until
                    return
                block = self._player.begin(n, self._pool, known).wait()
                kept = [other for other in self._made if _end(other) > self.heard_until]
                self._made = (*kept, block)
                self._position = begin + n

    def part(self, number: int, begin: int, end: int) -> "Stem":
        """What a track sounds like in some samples, as far as they have been made; silent where they have not."""
        place, found = self._places[number], Stem([], [])
        for block in self._made:
            low, high = max(begin, block.start_sample), min(end, _end(block))
            if low >= high:
                continue
            inside = slice(low - block.start_sample, high - block.start_sample)
            found.busy.extend(block.busy[place])
            more = block.extra.get(place)
            if block.busy[place]:
                more = None if more is None else more[:, inside]
                found.pieces.append((low - begin, block.stems[place][:, inside], more))
        return found


class Stem:
    """What a track sounds like for a while, in pieces."""

    def __init__(self, pieces: list[tuple[int, Floats, Floats | None]], busy: list[tuple[float, float]]) -> None:
        self.pieces, self.busy = pieces, busy  # where each begins, [2, n] of it, what it sends to the room beyond that

    def add_to(self, stem: Floats) -> None:
        """Adds it to samples [2, n]."""
        for at, piece, _ in self.pieces:
            stem[:, at : at + piece.shape[1]] += piece

    def risen(self, since: int, span: float) -> "Stem":
        """The same while it fades in over some samples, so many of which have passed."""
        if since >= span:
            return self
        pieces: list[tuple[int, Floats, Floats | None]] = []
        for at, piece, more in self.pieces:
            rise = np.minimum((since + at + np.arange(piece.shape[1])) / span, 1).astype(np.float32)
            pieces.append((at, piece * rise, None if more is None else more * rise))
        return Stem(pieces, self.busy)

    def extra(self, n: int) -> Floats | None:
        """What goes to the room beyond the stem, [2, n]; None where nothing does."""
        if all(more is None for _, _, more in self.pieces):
            return None
        total = np.zeros((2, n), np.float32)
        for at, _, more in self.pieces:
            if more is not None:
                total[:, at : at + more.shape[1]] += more
        return total


def is_played_alike(one: Track, other: Track) -> bool:
    """Whether two tracks sound the same before their faders."""
    if one is other:
        return True
    names = [name for name in Part.NAMES if name in one.controls or name in other.controls]
    if one.channel != other.channel or any(name not in one.controls or name not in other.controls for name in names):
        return False
    curves = [(one.controls[name], other.controls[name]) for name in names]
    return (
        _same(one.notes, other.notes)
        and _same(one.key_pressure, other.key_pressure)
        and all(
            a is b or (a.initial == b.initial and _same(a.times, b.times) and _same(a.values, b.values))
            for a, b in curves
        )
    )


def _same(one: AnyArray, other: AnyArray) -> bool:
    if one is other:
        return True
    return one.shape == other.shape and np.array_equal(_bytes(one), _bytes(other))


def _bytes(array: AnyArray) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8)


def _end(block: Block) -> int:
    return block.start_sample + int(block.stems.shape[2])


class _Told:
    """Stands before a player: it is not told of the notes of parts that rest."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self.resting: set[int] = set()
        self.voice, self.press = player.voice, player.press
        self.lift, self.release, self.cut = player.lift, player.release, player.cut

    def control(self, part: int, name: str, value: float, time: float) -> None:
        if name in Part.NAMES:  # faders are the desk's, which has them from the score
            self._player.control(part, name, value, time)

    def start(self, strike: Strike) -> int:
        return _NOT_PLAYED if strike.part in self.resting else self._player.start(strike)
