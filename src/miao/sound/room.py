"""The room that all stems stand in: an impulse response, drawn from a handful of numbers or recorded, and its
convolution block by block.

Which rooms there are and how they are kept in files: `sound.rooms`. How one is measured: `measuring.decay`.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from miao.arrays import Floats
from miao.sound.audio import Audio, resample
from miao.sound.convolution import convolver, partitions

BAND_HZ = np.array([63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000])
N_REFLECTIONS = 24  # of each speaker to each ear
REFERENCE_BAND_HZ = (200, 2000)  # where the room is as loud as what is sent: that music has at any sample rate
EARLY_SECONDS = (0.11, 0.16)  # after the first reflection: up to here a room has its early level, from there on none
CHANGE_SECONDS = 0.05  # in which what is sent goes over from one room to the next
LONGEST_SECONDS = 20.0  # of an impulse response
USUAL_PARTITION_SAMPLES = 16384


class Acoustics(Protocol):
    """What a `Room` is made of."""

    @property
    def gain_db(self) -> float:
        """What the response is turned up by."""
        ...

    def response(self, sample_rate: int) -> Floats:
        """Impulse responses [2 ears, 2 speakers, S]: from 200 to 2000 Hz as loud as what is sent."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class DrawnRoom:
    """A room as a handful of numbers; as they stand here they are the hall that plays where nothing is asked for."""

    t60_seconds: float = 1.6  # to fall by 60 dB at 1 kHz
    # The same by octave from 63 Hz to 16 kHz, relative to 1 kHz, and level in dB: air and curtains take the treble
    # sooner, and a room without its lowest octave does not boom.
    decays: tuple[float, ...] = (0.95, 1.1, 1.12, 1.06, 1.0, 0.88, 0.7, 0.48, 0.3)
    levels_db: tuple[float, ...] = (-9, -3, 0, 0, 0, 0, -1, -3, -7)
    predelay_seconds: float = 0.015  # to the first reflection
    build_up_seconds: float = 0.05  # from there to the full density
    reflections: float = 0.2  # share of single reflections in the power of the whole, 0 to 0.9
    width: float = 1.0  # 1: the ears hear tails of their own, 0: both the same
    # by octave, how far what comes first lies above the line that the tail falls on
    early_db: tuple[float, ...] = (0.0,) * 9
    gain_db: float = 0.0  # against the usual level, 16 dB below the sound at General MIDI's usual send
    seed: int = 0  # another number, another room of the same kind

    def response(self, sample_rate: int) -> Floats:
        """The impulse responses, drawn from noise: [2 ears, 2 speakers, S].

        From 200 to 2000 Hz noise on both speakers comes back as loud as it went in, i.e. a send of 1 gives as much
        room as sound.
        """
        return _drawn(replace(self, gain_db=0.0), sample_rate)

    def with_t60(self, seconds: float) -> "DrawnRoom":
        """The same room with another reverberation time at 1 kHz, the other octaves in proportion."""
        return replace(self, t60_seconds=seconds)


@dataclass(frozen=True, eq=False)
class RecordedRoom:
    """A room as an impulse response that was recorded in it, the direct sound taken off."""

    responses: Floats  # [2 ears, 2 speakers, S]
    sample_rate: int
    t60_seconds: float  # at 1 kHz, as measured
    gain_db: float = 0.0

    def response(self, sample_rate: int) -> Floats:
        """The impulse responses at another rate, as loud as those of a drawn room: [2 ears, 2 speakers, S]."""
        flat = Audio(self.responses.reshape(4, -1), self.sample_rate)
        samples = resample(flat, sample_rate).samples
        return _as_loud_as_sent(samples.reshape(2, 2, -1), sample_rate)

    def with_t60(self, seconds: float) -> "RecordedRoom":
        """The same room, its decay drawn out or damped to another time at 1 kHz, but no longer than the file is."""
        time = np.arange(self.responses.shape[-1]) / self.sample_rate
        slope = 3 * (1 / self.t60_seconds - 1 / seconds)
        return replace(self, responses=self.responses * (10 ** (slope * time)).astype(np.float32), t60_seconds=seconds)


@lru_cache(maxsize=16)  # a room that is only louder is not drawn again
def _drawn(room: DrawnRoom, sample_rate: int) -> Floats:
    rng = np.random.default_rng(room.seed)
    n = int((room.predelay_seconds + 1.25 * room.t60_seconds) * sample_rate)
    size = _good_size(n, sample_rate)
    hz = np.fft.rfftfreq(size, 1 / sample_rate)
    seconds = np.arange(n) / sample_rate - room.predelay_seconds
    # diffuse tail: Gaussian noise in octave bands with cos^2 flanks, each with its own decay; drawn from the lowest
    # frequency upwards, so that the room is the same at every sample rate
    drawn = [source.standard_normal((len(hz), 2), np.float32) for source in rng.spawn(4)]
    noise = size * np.stack([draw[:, 0] + 1j * draw[:, 1] for draw in drawn]).reshape(2, 2, -1)
    if room.width < 1:
        noise[1] = room.width * noise[1] + np.sqrt(1 - room.width**2) * noise[0]
    octave = np.interp(np.log2(np.maximum(hz, 1)), np.log2(BAND_HZ), np.arange(len(BAND_HZ)))
    octave[hz < 30] = -1  # nothing below hearing
    tail = np.zeros((2, 2, n), np.float32)
    begin, end = EARLY_SECONDS
    is_early = 0.5 + 0.5 * np.cos(np.pi * np.clip((seconds - begin) / (end - begin), 0, 1))
    for band, (decay, level, early) in enumerate(zip(room.decays, room.levels_db, room.early_db, strict=True)):
        flanks = np.cos(np.pi / 2 * np.minimum(np.abs(octave - band), 1)).astype(np.float32)
        exponent = level / 20 - 3 / (decay * room.t60_seconds) * seconds
        if early:
            exponent += early / 20 * is_early
        envelope = np.exp(np.log(10) * exponent)  # quicker than powers
        tail += np.fft.irfft(noise * flanks, size)[..., :n] * envelope.astype(np.float32)
    rise = np.clip(seconds / room.build_up_seconds, 0, 1)
    fall = np.clip((n - np.arange(n)) / (0.2 * n), 0, 1)
    tail *= (np.sin(np.pi / 2 * rise) * np.sin(np.pi / 2 * fall) ** 2 * (seconds >= 0)).astype(np.float32)
    if room.reflections > 0:
        tail += _reflections(room, sample_rate, n, rng, float(np.sum(tail**2)))
    return _as_loud_as_sent(tail, sample_rate)


def _good_size(n: int, sample_rate: int) -> int:
    """How many samples are transformed for n: a few more, as many hundredths of a second as make transforms fast.

    The same time at all usual rates, so that the frequencies for which numbers are drawn are the same.
    """
    hundredths = int(np.ceil(100 * n / sample_rate))
    while not _is_smooth(hundredths):
        hundredths += 1
    return hundredths * sample_rate // 100


def _is_smooth(number: int) -> bool:
    """Whether it has no prime factors above 5."""
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1


def _reflections(room: DrawnRoom, sample_rate: int, n: int, rng: np.random.Generator, tail_power: float) -> Floats:
    """Early reflections: ever denser and weaker, rounded by the walls, a little stronger on the speaker's own side."""
    width = max(int(0.0003 * sample_rate), 1) * 2 + 1
    last = room.predelay_seconds + 1.6 * room.build_up_seconds
    found = np.zeros((2, 2, min(n, int(last * sample_rate) + width + 1)), np.float32)  # there are none behind
    for ear in range(2):
        for speaker in range(2):
            at = room.predelay_seconds + 1.6 * room.build_up_seconds * np.sqrt(
                (np.arange(N_REFLECTIONS) + rng.random(N_REFLECTIONS)) / N_REFLECTIONS
            )
            own_side = 1.0 if ear == speaker else 0.6
            strength = room.predelay_seconds / at * rng.choice([-1, 1], N_REFLECTIONS) * own_side
            where = (at * sample_rate).astype(int)
            np.add.at(found[ear, speaker], where[where < n], strength[where < n])
    wall = np.hanning(width + 2)[1:-1] / np.sqrt(np.sum(np.hanning(width + 2) ** 2))
    found = np.apply_along_axis(np.convolve, -1, found, wall, "same").astype(np.float32)
    reflections = np.zeros((2, 2, n), np.float32)
    reflections[..., : found.shape[2]] = found * np.sqrt(
        room.reflections / (1 - room.reflections) * tail_power / np.sum(found**2)
    )
    return reflections


def _as_loud_as_sent(responses: Floats, sample_rate: int) -> Floats:
    """Responses [2, 2, S] scaled so that noise from 200 to 2000 Hz on both speakers comes back to each ear as loud as
    it went in; a recorded room keeps the balance of its ears."""
    size = _good_size(responses.shape[-1], sample_rate)
    hz = np.fft.rfftfreq(size, 1 / sample_rate)
    in_band = (hz >= REFERENCE_BAND_HZ[0]) & (hz <= REFERENCE_BAND_HZ[1])
    power = np.square(np.abs(np.fft.rfft(responses, size)[..., in_band])).mean(axis=2).sum(axis=1)  # of each ear
    scaled: Floats = responses / np.sqrt(power).astype(np.float32)[:, None, None]
    return scaled


class Room:
    """A stereo room, block by block: give it what the tracks send, add what comes back. The caller sets the level.

    It is an impulse response, drawn unless it was recorded, rather than a network of delay lines: noise that decays has
    no modes, so it cannot ring (spectral flatness of the tail 0.55, ideal noise 0.56), and its echoes are as dense as
    noise from 80 ms on. Convolution in partitions of 16384 samples costs about 0.2 % of a core at 44.1 kHz; for live
    blocks of 256 to 512 samples take partitions of 2048.

    As many samples come out as go in, without delay and however they are cut. The state is what was sent so far; `tail`
    gives the rest. Silence stays silence.
    """

    def __init__(
        self, sample_rate: int, acoustics: Acoustics, partition_samples: int = USUAL_PARTITION_SAMPLES
    ) -> None:
        self.sample_rate = sample_rate
        self._convolver = convolver(_partitions_of(sample_rate, acoustics, partition_samples))
        self.n_tail = response_of(sample_rate, acoustics).shape[-1] - 1

    def process(self, samples: np.ndarray) -> np.ndarray:
        """The room's answer to f4[2, n], f4[2, n]; n may be anything."""
        return self._convolver.process(samples)

    def tail(self) -> np.ndarray:
        """What still sounds when nothing more is sent: f4[2, n_tail]."""
        return self.process(np.zeros((2, self.n_tail), np.float32))


class ChangingRoom:
    """A room that may become another one while it sounds, used as a `Room` is.

    What is sent goes over to the new room within 50 ms, in a straight line; what the old room holds sounds on in it, as
    if one walked on with the echo behind. Each room hears a continuous sound, so that nothing clicks. While two rooms
    sound it costs twice as much. A change is an event at a sample: it changes nothing before.
    """

    def __init__(
        self, sample_rate: int, acoustics: Acoustics | None, partition_samples: int = USUAL_PARTITION_SAMPLES
    ) -> None:
        self.sample_rate, self._size = sample_rate, partition_samples
        self._rooms = [_Entered(self._room(acoustics), None)]

    @property
    def n_tail(self) -> int:
        """Samples until the rooms are silent when nothing more is sent."""
        return max((entered.room.n_tail for entered in self._rooms if entered.room), default=0)

    def change(self, acoustics: Acoustics | None) -> None:
        """From the next sample on what is sent goes to another room; None: to no room at all."""
        for entered in self._rooms:
            entered.leave(self.sample_rate)
        self._rooms.append(_Entered(self._room(acoustics), 0))

    def process(self, samples: np.ndarray) -> np.ndarray:
        """The rooms' answer to f4[2, n], f4[2, n]; n may be anything."""
        if len(self._rooms) == 1 and self._rooms[0].room and self._rooms[0].since is None:
            return self._rooms[0].process(samples, self.sample_rate)
        heard = np.zeros(samples.shape, np.float32)
        for entered in self._rooms:
            if entered.room is not None:
                heard += entered.process(samples, self.sample_rate)
        self._rooms = [entered for entered in self._rooms if not entered.is_over]
        return heard

    def tail(self) -> np.ndarray:
        """What still sounds when nothing more is sent: f4[2, n_tail]."""
        return self.process(np.zeros((2, self.n_tail), np.float32))

    def _room(self, acoustics: Acoustics | None) -> Room | None:
        return None if acoustics is None else Room(self.sample_rate, acoustics, self._size)


class _Entered:
    """A room and where its send stands: fading in since it was entered, fading out since it was left."""

    def __init__(self, room: Room | None, since: int | None) -> None:
        self.room, self.since = room, since
        self.left: int | None = None  # samples since it was left
        self._level_when_left = 1.0

    def leave(self, sample_rate: int) -> None:
        if self.left is None:
            span = CHANGE_SECONDS * sample_rate
            self._level_when_left = 1.0 if self.since is None else min(self.since / span, 1.0)
            self.left = 0

    def process(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        assert self.room is not None
        n, span = samples.shape[1], CHANGE_SECONDS * sample_rate
        if self.left is not None:
            gains = np.clip(self._level_when_left - (self.left + np.arange(n)) / span, 0, 1)
            samples = samples * gains.astype(np.float32)
            self.left += n
        elif self.since is not None:
            samples = samples * np.minimum((self.since + np.arange(n)) / span, 1).astype(np.float32)
            self.since = None if self.since + n >= span else self.since + n
        return self.room.process(samples)

    @property
    def is_over(self) -> bool:
        """Whether it was left so long ago that it is silent."""
        if self.left is None or self.room is None:
            return self.left is not None
        over: bool = self.left > self.room.n_tail + CHANGE_SECONDS * self.room.sample_rate
        return over


@lru_cache(maxsize=4)
def response_of(sample_rate: int, acoustics: Acoustics) -> Floats:
    """The impulse responses [2 ears, 2 speakers, S] of a room, at its gain."""
    response = acoustics.response(sample_rate)
    return response * np.float32(10 ** (acoustics.gain_db / 20)) if acoustics.gain_db else response


@lru_cache(maxsize=4)
def _partitions_of(sample_rate: int, acoustics: Acoustics, partition_samples: int) -> Any:
    return partitions(response_of(sample_rate, acoustics), partition_samples)
