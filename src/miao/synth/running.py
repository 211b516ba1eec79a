"""A score that sounds while it may be changed: blocks that begin small, and no more is made anew than what was changed.

From a moment on it sounds as if it had been played from the beginning. Where that is urgent (a listener has jumped
there) what is struck or held there comes first, and what still rings from before, with its room, a little later.

A change begins another `Running` where the listener is. Tracks that are played as before keep the sound that has been
made of them, so that faders, sends, rooms and silenced tracks only cost another mix, another instrument only the track
that plays it. The room is told what it was sent until then and sounds on.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np

from miao.arrays import Flags, Floats
from miao.bank.bank import Bank
from miao.midi.score import Score, Track
from miao.sound.chorus import USUAL, Chorus
from miao.sound.desk import DEFAULTS, SMOOTHING_SECONDS, Desk
from miao.sound.limiter import Limiter
from miao.synth.chunks import Known
from miao.synth.mastering import CEILING_DB
from miao.synth.rendering import FADE_SECONDS, REMEMBERED, ROOM_LEVEL, acoustics_of, room_with
from miao.synth.settings import PlaySettings
from miao.synth.sources import Source

SENDS = ("reverb", "chorus")
KEPT_SECONDS = 10.0  # of what the room was sent, behind what has been made
RUN_UP = 1024  # samples that filters and limiter hear of before they are heard, after a change
FRESH_SECONDS = 0.3  # what was let go longer ago than this may come later,
DRUM_SECONDS = 0.5  # as may drums that were struck longer ago,
LATE_SECONDS = 0.25  # namely after so much sound,
RISE_SECONDS = 0.05  # and as smoothly
_AT_ONCE = 16384  # samples of what is made and not heard


class Running:
    """The finished sound of a score from a moment on, block by block, at a fixed gain.

    ``end`` cuts it off there, faded as an excerpt is. ``known`` are chunks that were written before, and will be added
    to. ``past`` is what the room was sent up to now, f4[2, n]; None: what it would have been sent from the beginning.
    ``before`` is what played until now, from which tracks of the same ``numbers`` (by default places, from 1) are taken
    over if they are played alike; ``start`` is then rounded to a sample.
    """

    def __init__(
        self, bank: Bank, score: Score, settings: PlaySettings, voices: Mapping[int, int], *, start: float = 0.0,
        end: float | None = None, known: Known | None = None, past: Floats | None = None,
        pool: ThreadPoolExecutor | None = None, numbers: Sequence[int] | None = None, before: "Running | None" = None,
        is_urgent: bool = False,
    ) -> None:  # fmt: skip
        rate = self._rate = settings.sample_rate
        self.first = self.position = round(start * rate)  # samples of the score: where it began, what comes next
        self.known: Known = {} if known is None else known
        self._end = None if end is None else round(end * rate)
        self._bank, self._score, self._settings, self._pool = bank, score, settings, pool
        self._numbers = tuple(numbers or range(1, len(score.tracks) + 1))
        self._tracks = dict(zip(self._numbers, score.tracks, strict=True))
        self._voices = {self._numbers[place]: voice for place, voice in voices.items()}
        self._names = {self._numbers[place - 1]: str(getattr(voice, "name", voice))
                       for place, voice in (settings.voices or {}).items()}  # fmt: skip
        self._acoustics = acoustics_of(score, settings)
        self._room = room_with(rate, self._acoustics)
        self._at = self.first  # the next sample that is mixed
        is_from_before = past is None and self.first > 0
        is_urgent = is_urgent and bank.encode is None  # where notes hear each other, none can come later
        if is_from_before and not is_urgent:
            self._at -= min(self._n_remembered, self.first)
        self._late: dict[int, Track] = {}  # of which what was struck before the start is still to come
        self.sources, self._of = self._cast(before, is_split=is_urgent and self.first > 0)
        if before is not None and past is not None and self.first > RUN_UP and self._at == self.first:
            self._at, past = self.first - RUN_UP, past[:, : max(past.shape[1] - RUN_UP, 0)]
        self._n_to_drop = self.first - self._at  # of what comes out of the limiter
        self._is_room_late = is_from_before and is_urgent
        self._ringing: tuple[int, Floats] | None = None  # what the room still tells of before, and from which sample on
        self._rising: tuple[Source, int] | None = None  # tracks that ring from before, and since when they are heard
        self._desk = _Desk(rate, score, self._at)
        self._chorus = Chorus(rate, score.chorus or USUAL)
        past = np.zeros((2, 0), np.float32) if past is None else past
        if self._room is not None and past.shape[1]:
            self._room.process(past[:, -max(self._n_remembered, 1) :])
        self._gain = np.float32(10 ** ((settings.gain_db or 0.0) / 20))
        self._limiter = Limiter(rate, CEILING_DB)
        self._sent = (self._at, past)  # up to which sample, what
        self._is_tail_due, self.is_over = True, False
        self._until = 0
        self._least = round(max(score.end, score.duration) * rate)  # a rest before the end is part of the piece

    def block(self, n_samples: int) -> Floats:
        """The next samples, f4[2, up to n]; a little fewer at first, as the limiter looks ahead. Empty once over."""
        while self._at < self.first and not self.is_over:  # what is only to be remembered
            self._told(self._limited(self._next(min(self.first - self._at, _AT_ONCE))))
        if self.is_over:
            return np.zeros((2, 0), np.float32)
        if self.is_waiting and self._at >= self.first + LATE_SECONDS * self._rate:
            self._remember()
        n = n_samples if self._end is None else min(n_samples, self._end - self._at)
        mix = self._next(n) if n > 0 else None
        if mix is None:
            self.is_over = True
            return self._told(self._limiter.finish())
        return self._told(self._limited(mix))

    def heard(self, sample: int) -> None:
        """The listener has come to a sample; what is behind may be forgotten. For any thread."""
        for source in self.sources:
            source.heard_until = sample - 2 * RUN_UP

    def sent_until(self, sample: int) -> Floats:
        """What the room was sent up to a sample, f4[2, up to ten seconds]; for any thread, also while a block is made.

        Less where not so much has been made yet.
        """
        until, sent = self._sent
        return sent[:, : max(sent.shape[1] - max(until - sample, 0), 0)]

    @property
    def is_waiting(self) -> bool:
        """Whether what rings from before is still to come."""
        return bool(self._late) or self._is_room_late

    def mixed(self, n_samples: int) -> Floats | None:
        """In place of `block`: the next samples before gain and limiter, made at leisure; None once over."""
        return self._next(n_samples, is_leisurely=True)

    # what is played

    def _cast(self, before: "Running | None", *, is_split: bool) -> tuple[list[Source], dict[int, list[Source]]]:
        """The sources, and those of each track."""
        found: dict[int, list[Source]] = {}
        kept: list[Source] = []
        if before is not None and _plays_alike(before._settings, self._settings):
            kept = [source for source in before.sources if not source.is_done]
            for number, track in self._tracks.items():
                mine = [source for source in kept if number in source.tracks]
                is_same = self._names.get(number) == before._names.get(number, self._names.get(number))
                if mine and is_same and all(source.has(number, track, self._at) for source in mine):
                    found[number] = mine
                    for source in mine:
                        source.unwanted.pop(number, None)
            for source in kept:
                for number in source.tracks:
                    if source not in found.get(number, ()):
                        source.unwanted.setdefault(number, self._at)
        new = {number: track for number, track in self._tracks.items() if number not in found}
        if new:
            source = self._source(new, self._at, self._is_fresh if is_split else None)
            kept.append(source)
            self._late = new if is_split else {}
            found |= {number: [source] for number in new}
        return kept, found

    def _source(self, tracks: Mapping[int, Track], start: int, choose: Callable[[Track, int], Flags] | None) -> Source:
        """The tracks from a sample on, or only those of their notes that are chosen."""
        chosen = tracks if choose is None else {
            number: replace(track, notes=track.notes[choose(track, number)]) for number, track in tracks.items()
        }  # fmt: skip
        return Source(
            self._bank, self._score, tracks, chosen, self._settings, self._voices, start, self.known, self._pool
        )

    def _is_fresh(self, track: Track, number: int) -> Flags:
        """Which notes are to be heard at once where one begins: those that are held, or were until just now."""
        notes, start = track.notes, self.first / self._rate
        voice = self._voices.get(number)
        rings = notes["is_drum"] & (voice is None) | (voice in self._bank.own_kits)
        until = np.where(rings, notes["start"] + DRUM_SECONDS, np.minimum(notes["damp"], notes["cut"]) + FRESH_SECONDS)
        fresh: Flags = until > start
        return fresh

    def _remember(self) -> None:
        """What still rings from before the start, and what the room tells of it, from here on."""
        at, tracks = self._at, self._late
        begin = max(min(at - self._n_remembered, self.first), 0) if self._is_room_late else at
        old = self._source(tracks, begin, lambda track, number: ~self._is_fresh(track, number))
        if self._is_room_late:
            self._ringing = self._told_before(tracks, old, begin)
        old.make(at)
        self._rising = old, at
        self.sources.append(old)
        self._of = {number: [*own, old] if number in tracks else own for number, own in self._of.items()}
        self._late, self._is_room_late = {}, False

    def _told_before(self, tracks: Mapping[int, Track], old: Source, begin: int) -> tuple[int, Floats] | None:
        """What the room tells from here on of what it would have been sent, had one listened since a sample."""
        room, at, start = room_with(self._rate, self._acoustics), self._at, self.first / self._rate
        if room is None:
            return None
        desk = _Desk(self._rate, self._score, begin)
        fresh = self._source(
            tracks, begin, lambda track, number: self._is_fresh(track, number) & (track.notes["start"] < start)
        )
        borders = sorted({*range(begin, at, _AT_ONCE), self.first, at})
        for first, until in pairwise(borders):
            sources = [old, fresh] if until <= self.first else [old]  # then it is sent by what is heard already
            for source in sources:
                source.make(until)
            sent = desk.mix(first, until, self._numbers, {number: sources for number in self._numbers})[1]
            room.process(np.float32(ROOM_LEVEL) * sent["reverb"])
        return at, room.tail()

    # what becomes of it

    def _next(self, n: int, *, is_leisurely: bool = False) -> Floats | None:
        """The next samples with room and chorus, f4[2, up to n]; None once all has died away."""
        begin = self._at
        for source in self.sources:
            source.make(begin + n, is_leisurely=is_leisurely)
        if any(source.is_done for source in self.sources):
            self.sources = [source for source in self.sources if not source.is_done]
            self._of = {number: [s for s in own if not s.is_done] for number, own in self._of.items()}
        heard = {source for sources in self._of.values() for source in sources}
        if any(source.sounds_after(begin) for source in heard):
            mix, sent = self._desk.mix(begin, begin + n, self._numbers, self._of, self._rising)
        else:
            if self._is_tail_due:
                self._is_tail_due = False
                self._until = begin + max(
                    max(self._least - begin, 0),
                    0 if self._room is None else self._room.n_tail,
                    0 if self._chorus.is_silent else self._chorus.n_tail,
                )
            n = min(n, self._until - begin)
            if n <= 0:
                return None
            mix = np.zeros((2, n), np.float32)
            sent = {name: mix for name in SENDS}
        self._at = begin + n
        return mix + self._returned(begin, n, sent)

    def _returned(self, begin: int, n: int, sent: dict[str, Floats]) -> Floats:
        """What comes back from room and chorus."""
        back = np.zeros((2, n), np.float32)
        to_room = np.float32(ROOM_LEVEL) * sent["reverb"]
        if self._room is not None:
            back += self._room.process(to_room)
        if self._ringing is not None:
            since, tail = self._ringing
            part = tail[:, begin - since : begin - since + n]
            rise = np.minimum((begin - since + np.arange(part.shape[1])) / (RISE_SECONDS * self._rate), 1)
            back[:, : part.shape[1]] += part * rise.astype(np.float32)
            if begin - since + n >= tail.shape[1]:
                self._ringing = None
        self._chorus.position = begin
        if not self._chorus.is_silent or sent["chorus"].any():
            back += self._chorus.process(sent["chorus"])
        kept = np.concatenate([self._sent[1], to_room], axis=1)[:, -round(KEPT_SECONDS * self._rate) :]
        self._sent = begin + n, kept
        return back

    def _limited(self, mix: Floats | None) -> Floats:
        assert mix is not None
        end, fade = self._at, FADE_SECONDS * self._rate
        if self._end is not None and end > self._end - fade:
            mix = mix * np.clip((self._end - np.arange(end - mix.shape[1], end)) / fade, 0, 1).astype(np.float32)
        return self._limiter.process(mix * self._gain)

    def _told(self, samples: Floats) -> Floats:
        n = min(self._n_to_drop, samples.shape[1])
        self._n_to_drop -= n
        self.position += samples.shape[1] - n
        return samples[:, n:]

    @property
    def _n_remembered(self) -> int:
        return 0 if self._room is None else int(REMEMBERED * self._room.n_tail)


class _Desk:
    """A mixing desk whose faders move as a score says, from a sample on."""

    def __init__(self, sample_rate: int, score: Score, start: int) -> None:
        self._rate = sample_rate
        self._desk = Desk(sample_rate, len(score.tracks), SENDS)
        self._told: dict[tuple[int, str], int] = {}  # by track and controller, how many of its steps
        self._curves = {
            (place, name): track.controls[name] for place, track in enumerate(score.tracks) for name in DEFAULTS
        }
        first = start / sample_rate - SMOOTHING_SECONDS
        for (place, name), curve in self._curves.items():
            n = self._told[place, name] = int(curve.times.searchsorted(first))
            self._desk.set(place, name, float(curve.values[n - 1] if n else curve.initial), 0.0)
        self._curves = {at: curve for at, curve in self._curves.items() if len(curve.times)}

    def mix(
        self, begin: int, end: int, numbers: Sequence[int], of: Mapping[int, Sequence[Source]],
        rising: tuple[Source, int] | None = None,
    ) -> tuple[Floats, dict[str, Floats]]:  # fmt: skip
        """The sum [2, n] of all tracks, and what they send, [2, n] by the send's name."""
        n = end - begin
        for (place, name), curve in self._curves.items():
            told = self._told[place, name]
            until = self._told[place, name] = max(int(curve.times.searchsorted(end / self._rate)), told)
            for time, value in zip(curve.times[told:until].tolist(), curve.values[told:until].tolist(), strict=True):
                self._desk.set(place, name, value, max(time, 0.0))
        stems, busy, extra = np.zeros((len(numbers), 2, n), np.float32), [], dict[int, Floats]()
        for place, number in enumerate(numbers):
            spans: list[tuple[float, float]] = []
            for source in of[number]:
                part = source.part(number, begin, end)
                if rising is not None and source is rising[0]:
                    part = part.risen(begin - rising[1], RISE_SECONDS * self._rate)
                spans.extend(part.busy)
                part.add_to(stems[place])
                more = part.extra(n)
                if more is not None:
                    extra[place] = extra[place] + more if place in extra else more
            busy.append(spans)
        row = np.zeros((1, 2, n), np.float32)
        sent = self._desk.add(begin, stems, busy, extra, row, [0] * len(numbers))
        return row[0], sent


def _plays_alike(one: PlaySettings, other: PlaySettings) -> bool:
    """Whether stems that were made by one are those of the other."""
    plain = {"room": None, "t60": None, "wet": 1.0, "loudness": -16.0, "gain_db": None, "voices": None}
    return replace(one, **plain) == replace(other, **plain)  # type: ignore[arg-type]
