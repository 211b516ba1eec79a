"""The room that all stems stand in: an impulse response drawn from noise, and its convolution block by block."""

from functools import lru_cache

import numpy as np

PREDELAY_SECONDS = 0.015
BUILD_UP_SECONDS = 0.05  # from the first reflection to the full density
N_REFLECTIONS = 24  # of each speaker to each ear
# Reverberation time relative to that at 1 kHz, and level in dB: air and curtains take the treble sooner, and
# a room without its lowest octave does not boom.
BAND_HZ = np.array([63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000])
BAND_DECAYS = np.array([0.95, 1.1, 1.12, 1.06, 1.0, 0.88, 0.7, 0.48, 0.3])
BAND_LEVELS_DB = np.array([-9, -3, 0, 0, 0, 0, -1, -3, -7])
REFERENCE_BAND_HZ = (200, 2000)  # where the room is as loud as what is sent: that music has at any sample rate


def room_response(sample_rate: int, rt60_seconds: float = 1.6, seed: int = 0) -> np.ndarray:
    """The room's impulse responses [2 ears, 2 speakers, S] float32; rt60_seconds is the time to fall 60 dB at 1 kHz.

    From 200 to 2000 Hz noise on both speakers comes back as loud as it went in, i.e. a send of 1 gives as much room as
    sound.
    """
    rng = np.random.default_rng(seed)
    n = int((PREDELAY_SECONDS + 1.25 * rt60_seconds) * sample_rate)
    hz = np.fft.rfftfreq(n, 1 / sample_rate)
    seconds = np.arange(n) / sample_rate - PREDELAY_SECONDS
    # diffuse tail: Gaussian noise in octave bands with cos^2 flanks, each with its own decay; drawn from the lowest
    # frequency upwards, so that the room is the same at every sample rate
    drawn = [source.standard_normal((len(hz), 2), np.float32) for source in rng.spawn(4)]
    noise = n * np.stack([draw[:, 0] + 1j * draw[:, 1] for draw in drawn]).reshape(2, 2, -1)
    octave = np.interp(np.log2(np.maximum(hz, 1)), np.log2(BAND_HZ), np.arange(len(BAND_HZ)))
    octave[hz < 30] = -1  # nothing below hearing
    tail = np.zeros((2, 2, n), np.float32)
    for band, (decay, level) in enumerate(zip(BAND_DECAYS, BAND_LEVELS_DB, strict=True)):
        flanks = np.cos(np.pi / 2 * np.minimum(np.abs(octave - band), 1)).astype(np.float32)
        envelope = 10 ** (level / 20 - 3 * seconds / (decay * rt60_seconds))
        tail += np.fft.irfft(noise * flanks, n) * envelope.astype(np.float32)
    rise = np.clip(seconds / BUILD_UP_SECONDS, 0, 1)
    fall = np.clip((n - np.arange(n)) / (0.2 * n), 0, 1)
    tail *= (np.sin(np.pi / 2 * rise) * np.sin(np.pi / 2 * fall) ** 2 * (seconds >= 0)).astype(np.float32)
    # early reflections: ever denser and weaker, rounded by the walls, a little stronger on the speaker's own side
    reflections = np.zeros((2, 2, n), np.float32)
    for ear in range(2):
        for speaker in range(2):
            at = PREDELAY_SECONDS + 1.6 * BUILD_UP_SECONDS * np.sqrt(
                (np.arange(N_REFLECTIONS) + rng.random(N_REFLECTIONS)) / N_REFLECTIONS
            )
            strength = PREDELAY_SECONDS / at * rng.choice([-1, 1], N_REFLECTIONS) * (1.0 if ear == speaker else 0.6)
            np.add.at(reflections[ear, speaker], (at * sample_rate).astype(int), strength)
    width = max(int(0.0003 * sample_rate), 1) * 2 + 1
    wall = np.hanning(width + 2)[1:-1] / np.sqrt(np.sum(np.hanning(width + 2) ** 2))
    reflections = np.apply_along_axis(np.convolve, -1, reflections, wall, "same").astype(np.float32)
    reflections *= np.sqrt(0.25 * np.sum(tail**2) / np.sum(reflections**2))  # a fifth of the whole
    response = tail + reflections
    in_band = (hz >= REFERENCE_BAND_HZ[0]) & (hz <= REFERENCE_BAND_HZ[1])
    power = np.square(np.abs(np.fft.rfft(response)[..., in_band])).mean(axis=2).sum(axis=1)  # of each ear
    return response / np.sqrt(power).astype(np.float32)[:, None, None]


class Room:
    """A stereo room, block by block: give it what the tracks send, add what comes back. The caller sets the level.

    It is a drawn impulse response (`room_response`) rather than a network of delay lines: noise that decays has no
    modes, so it cannot ring (spectral flatness of the tail 0.55, ideal noise 0.56), and its echoes are as dense as
    noise from 80 ms on. Convolution in partitions of 16384 samples costs about 0.8 % of a core at 44.1 kHz; for live
    blocks of 256 to 512 samples take partitions of 2048 (4 to 9 %).

    As many samples come out as go in, without delay and however they are cut: the partition that is being filled is
    transformed again at each call. The state is what was sent so far; `tail` gives the rest. Silence stays silence.
    """

    def __init__(
        self, sample_rate: int, rt60_seconds: float = 1.6, seed: int = 0, partition_samples: int = 16384
    ) -> None:
        self._size = size = partition_samples
        self._parts, self.n_tail = _partitions(sample_rate, rt60_seconds, seed, size)
        n_parts = len(self._parts)
        self._past = np.zeros((n_parts, 2, size + 1), np.complex64)  # ring of spectra: what was sent, by partition
        self._at = 0  # where in the ring the partition goes that is being filled
        self._filling = np.zeros((2, size), np.float32)
        self._n_filled = 0
        # what all but the partition that is being filled add to it and to the next
        self._coming: np.ndarray = np.zeros((2, 2 * size), np.float32)
        self._n_sounding = 0  # partitions until the past is silent

    def process(self, samples: np.ndarray) -> np.ndarray:
        """The room's answer to f4[2, n], f4[2, n]; n may be anything."""
        size = self._size
        out = np.empty_like(samples, dtype=np.float32)
        done = 0
        while done < samples.shape[1]:
            n = min(size - self._n_filled, samples.shape[1] - done)
            span = slice(self._n_filled, self._n_filled + n)
            self._filling[:, span] = samples[:, done : done + n]
            now = self._coming
            spectrum = None
            if self._filling[:, : span.stop].any():
                # row by row: two rows that lie a power of two apart get in each other's way in the cache
                spectrum = np.stack([np.fft.rfft(row, 2 * size) for row in self._filling])
                now = now + np.fft.irfft((spectrum * self._parts[0]).sum(axis=1), 2 * size)
            out[:, done : done + n] = now[:, span]
            self._n_filled += n
            done += n
            if self._n_filled == size:
                self._turn(spectrum, now)
        return out

    def tail(self) -> np.ndarray:
        """What still sounds when nothing more is sent: f4[2, n_tail]."""
        return self.process(np.zeros((2, self.n_tail), np.float32))

    def _turn(self, spectrum: np.ndarray | None, now: np.ndarray) -> None:
        """The filled partition joins the past; what the past adds to the next one is computed, once."""
        size, n_parts = self._size, len(self._parts)
        self._past[self._at] = 0 if spectrum is None else spectrum
        self._n_sounding = n_parts if spectrum is not None else self._n_sounding - 1
        self._coming = np.zeros((2, 2 * size), np.float32)
        if self._n_sounding > 0:
            total = np.zeros((2, size + 1), np.complex64)
            for part in range(1, n_parts):
                past = self._past[(self._at + 1 - part) % n_parts]
                total += self._parts[part, :, 0] * past[0]
                total += self._parts[part, :, 1] * past[1]
            self._coming = np.fft.irfft(total, 2 * size)
        self._coming[:, :size] += now[:, size:]
        self._at = (self._at + 1) % n_parts
        self._filling[:] = 0
        self._n_filled = 0


@lru_cache(maxsize=4)
def _partitions(sample_rate: int, rt60_seconds: float, seed: int, size: int) -> tuple[np.ndarray, int]:
    """Spectra of a room's response in partitions, [parts, ears, speakers, size + 1], and how long it sounds on."""
    response = room_response(sample_rate, rt60_seconds, seed)
    n_parts = -(-response.shape[-1] // size)
    padded = np.zeros((2, 2, n_parts * size), np.float32)
    padded[..., : response.shape[-1]] = response
    parts = padded.reshape(2, 2, n_parts, size).transpose(2, 0, 1, 3)
    return np.fft.rfft(parts, 2 * size).astype(np.complex64), response.shape[-1] - 1
