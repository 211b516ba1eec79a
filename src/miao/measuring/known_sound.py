"""A room measured by any sound of which it is known how it was before: music played into it, or our own rendering.

The sound as it was and as it was recorded are put into one time (`alike` says whether they belong together); octave by
octave the room's response between them is found (`measuring.band_response`), and a room that answers like this.
"""

from collections.abc import Sequence

import numpy as np

from miao.errors import MiaoError
from miao.measuring.band_response import LONGEST_RESPONSE, Line, Sounds, octave_line
from miao.measuring.rooms import DRY_DB, USUAL_DB, LearntRoom, drawn_like, said_of
from miao.sound.audio import Audio, resample
from miao.sound.decay import OctaveDecay
from miao.sound.room import BAND_HZ

LONGEST_SECONDS = 120.0  # of a recording that is used
LEAST_ALIKE = 0.08  # of two sounds that belong together (`alike`)
_LAG_HZ = 8000
_MOST_ERROR = 0.1  # of a T60 that is known, as its logarithm
_LEAST_FOLLOWED_DB = 30.0  # of such a fall: followed less far they come out long


def alike(recorded: Audio, dry: Audio) -> tuple[float, float]:
    """By how many seconds the dry sound comes later in the recording, and how alike they are then: 1 if one is the
    other, filtered; all frequencies up to 4 kHz count alike.

    Measured: in a room at its usual level 0.8, in one 4 dB louder than the sound, with noise, 0.15; the same notes at
    the same time by another sound bank 0.02 to 0.05.
    """
    heard, sent = (resample(Audio(a.samples.mean(axis=0, keepdims=True), a.sample_rate), _LAG_HZ).samples[0]
                   for a in (recorded, dry))  # fmt: skip
    n = _good_size(len(heard) + len(sent))
    both = np.fft.rfft(heard, n) * np.fft.rfft(sent, n).conj()
    size = np.abs(both)
    fits = np.abs(np.fft.irfft(both / np.maximum(size, 1e-6 * size.max() + 1e-30), n))
    at = int(fits.argmax())
    return (at if at < len(heard) else at - n) / _LAG_HZ, float(fits[at])


def room_of_known(recorded: Audio, dry: Audio, where: str = "the recording", sent: Audio | None = None) -> LearntRoom:
    """The room in which a recording of a sound was made of which it is known how it was before, at any level and with
    any silence before or after it. ``sent`` is what the room was sent of it, at the usual level, where that is another
    mix: then the room's gain is known, too.

    Raises: MiaoError if the two do not belong together, or no room is heard.
    """
    recorded = _cut(recorded)
    if not recorded.samples.any() or not dry.samples.any():
        raise MiaoError(f"{where}: the recording or the dry sound is silent")
    lag, share = alike(recorded, dry)
    if share < LEAST_ALIKE:
        raise MiaoError(f"{where}: does not belong to the dry sound; where they fit best they are alike by "
                        f"{share:.2f}, and {LEAST_ALIKE} is asked for")  # fmt: skip
    if sent is not None and not sent.samples.any():
        raise MiaoError(f"{where}: dry: nothing of the music is sent to a room")
    sounds = _aligned(recorded, dry, sent, lag)
    more_db = USUAL_DB if sent is not None else 0.0
    return _learnt([octave_line(sounds, float(hz)) for hz in BAND_HZ], where, sounds.sent_db, more_db)


def _learnt(lines: Sequence[Line | None], where: str, sent_db: float, more_db: float) -> LearntRoom:
    """The room of its octaves; what was sent is louder than what came directly by ``sent_db``, and the room's gain is
    against the usual level if ``more_db`` is that."""
    known = np.array([line is not None and line.error < _MOST_ERROR and line.followed_db >= _LEAST_FOLLOWED_DB
                      for line in lines])  # fmt: skip
    if not known[3:5].all():
        raise MiaoError(f"{where}: no decay can be followed around 500 and 1000 Hz; a longer or cleaner recording says "
                        "more")  # fmt: skip
    t60 = np.array([line.t60_seconds if line else np.nan for line in lines])
    levels = np.array([line.level_db if line else np.nan for line in lines])
    level_db = float(levels[3:5].mean()) + sent_db
    if level_db < DRY_DB:
        raise MiaoError(f"{where}: dry: what comes after the sound is {-level_db:.0f} dB below it; no room is heard")
    middle = [line for line, is_known in zip(lines[3:6], known[3:6], strict=True) if line and is_known]
    likeness = float(np.median([line.likeness for line in middle]))
    t60[~known], levels[~known] = np.nan, np.nan
    room = drawn_like(t60, levels, known, _gathering(middle[-1]), likeness, level_db - sent_db + more_db)
    ranges = [line.followed_db if is_known and line else 0.0 for line, is_known in zip(lines, known, strict=True)]
    octaves = tuple(OctaveDecay(float(hz), float(t), float(level), followed)
                    for hz, t, level, followed in zip(BAND_HZ, t60, levels, ranges, strict=True))  # fmt: skip
    return LearntRoom(room, octaves, level_db, tuple(levels.tolist()), said_of(known, level_db))


def _gathering(line: Line) -> tuple[float, float]:
    """When 1 % of the energy after the direct sound has come, seconds, and the share that comes within 60 ms."""
    gathered = np.cumsum(line.energy) / line.energy.sum()
    ends = line.seconds + 0.5 * line.seconds[0]
    return float(np.interp(0.01, gathered, ends)), float(np.interp(0.06, ends, gathered))


# two sounds as one


def _cut(audio: Audio) -> Audio:
    """The first two minutes from where it sounds, two channels at most."""
    loud = np.flatnonzero(np.abs(audio.samples).max(axis=0) > 1e-4 * np.abs(audio.samples).max(initial=0.0))
    first = int(loud[0]) if len(loud) else 0
    first = max(first - audio.sample_rate // 10, 0)
    samples = audio.samples[:2, first : first + int(LONGEST_SECONDS * audio.sample_rate)]
    return Audio(samples, audio.sample_rate)


def _aligned(recorded: Audio, dry: Audio, sent: Audio | None, lag: float) -> "Sounds":
    """The three in one time and at one rate, dry and sent as middle and sides where they have any."""
    rate = min(recorded.sample_rate, dry.sample_rate)
    heard, first, last = (resample(audio, rate).samples.astype(np.float64) for audio in (recorded, dry, sent or dry))
    if len(first) == 2 and np.square(first[0] - first[1]).sum() > 1e-4 * np.square(first).sum():
        played = np.stack(
            [last.mean(axis=0), 0.5 * (last[0] - last[1]), first.mean(axis=0), 0.5 * (first[0] - first[1])]
        )
    else:
        played = np.stack([last.mean(axis=0), first.mean(axis=0)])
    shift = round(lag * rate)
    placed = np.zeros((len(played), heard.shape[1]))
    begin, end = max(shift, 0), min(shift + played.shape[1], placed.shape[1])
    placed[:, begin:end] = played[:, begin - shift : end - shift]
    seconds = _good_size(int(np.ceil(heard.shape[1] / rate + LONGEST_RESPONSE + 0.1)))
    n = seconds * rate
    more = np.square(last).sum() / np.square(first).sum()
    return Sounds(
        np.fft.rfft(heard, n), np.fft.rfft(placed, n), seconds, heard.shape[1] / rate, float(10 * np.log10(more))
    )


def _good_size(n: int) -> int:
    """A number of 2, 3 and 5 alone, n or little more."""
    return min(k << max(int(np.ceil(np.log2(n / k))), 0) for k in (1, 3, 5, 9, 15))
