"""What is heard of one recorded note: where it starts, how long it was held, where it is over, and its pitch."""

import numpy as np

from miao.arrays import Doubles, Floats, Reals
from miao.sound.spectrum import AUDIBLE_DB, SAMPLE_RATE

_CUT_OFF_DB = 15.0  # a file that ends no further below its top was cut off
_FALLEN_DB, _TAKES_SECONDS = 4.0, 0.03  # a note that is let go is so far down so much later,
_GONE_DB, _FAST_SECONDS = 20.0, 0.3  # if it is so far down soon after,
_DYING_DB = -15.0  # and did not die away by more a second before
_STEADY_DB, _ABOVE_DB = 4.0, 6.0  # a rumble changes by no more; what is louder by so much is not it
_LEVEL_DB = 2.0  # by which the halves of what is left of a note differ where it is the room


def envelope_db(sound: Reals, hop: int, width: int) -> Doubles:
    """Level of a sound in dB, mean power of the channels over ``width`` samples, every ``hop`` samples from 0 on."""
    power = np.square(sound, dtype=np.float64).mean(axis=0)
    total = np.concatenate([[0.0], np.cumsum(np.pad(power, (0, width)))])
    starts = np.arange(0, max(len(power), 1), hop)
    levels: Doubles = 10 * np.log10((total[starts + width] - total[starts]) / width + 1e-14)
    return levels


def find_onset(sound: Reals, sample_rate: int = SAMPLE_RATE) -> int:
    """The sample at which a note starts: where the level (3 ms, every ms) has last been within 6 dB of the quiet before
    it, or 50 dB below the loudest, whichever is higher, before it passes 20 dB below the loudest for the first time."""
    hop = sample_rate // 1000
    level = envelope_db(sound, hop, 3 * hop)
    loud = int(np.argmax(level > level.max() - 20))
    quiet = np.median(level[:loud]) if loud > 20 else -np.inf
    threshold = max(min(quiet + 6, level.max() - 26), level.max() - 50)
    below = np.flatnonzero(level[: loud + 1] < threshold)
    return (int(below[-1]) + 2) * hop if len(below) else 0


def find_release(sound: Reals, sample_rate: int = SAMPLE_RATE) -> tuple[float, bool]:
    """How long a note was held (seconds from its start) and whether it is heard being let go.

    Recordings of single notes do not say when the player let go. The level in dB (20 ms, every 10 ms), from its top
    until it has fallen by 35 dB or into what the file ends with, is fitted by two straight lines that meet, 0.1 s later
    or more. Where the second falls by 20 dB a second or more, and three times as fast as the first, the note was let go
    where they meet or so, `_let_go`. (Fits further down would find where files were faded out.) Else it was held to its
    end: a string that rings until it is silent (60 dB below its peak, or no more than 6 dB above the noise that its
    file ends with), or a file that was cut off. A soft note may end in the room's noise 15 dB below it.
    """
    hop = sample_rate // 100
    level = envelope_db(sound, hop, 2 * hop)
    level = np.convolve(np.pad(level, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    peak = int(np.argmax(level > level.max() - 1))
    quiet = float(level[-8:-2].mean()) if len(level) > 60 else -np.inf
    if quiet > level.max() - _CUT_OFF_DB:
        return len(level) * 0.01, False
    falling = float(level[-108:-58].mean() - level[-58:-8].mean()) if len(level) > 160 else 0.0  # in half a second
    is_noise = quiet < level.max() - 35 and falling < 1  # else the file was cut off while the note rang
    lasted = int(np.flatnonzero(level > max(level.max() - 60, quiet + 6 if is_noise else -np.inf))[-1]) + 1
    faint = level < max(level.max() - 35, _floor_db(level, quiet) + 6)
    stays = np.convolve(faint[peak:], np.ones(10), mode="valid") > 9.5  # faint for 0.1 s
    last = int(np.flatnonzero(level > max(level.max() - 35, quiet))[-1]) + 1
    for stop in (peak + int(np.argmax(stays)) if stays.any() else last, last):
        meeting_seconds, before, after = _two_lines(level[peak:stop])
        if after < -20 and after < 3 * min(before, 0):
            return _let_go(level[peak:stop], round(meeting_seconds * 100), min(before, 0.0)) + peak * 0.01, True
    return lasted * 0.01, False


def _let_go(heard: Doubles, meeting: int, slope: float) -> float:
    """Where a note was let go, s, from levels every 10 ms that two lines fit which meet there or so: if it lasts and
    falls fast, a moment before it is well below where it was going in the half second before. (Where a player lets a
    note swell or die away, the lines meet up to 0.1 s off.)"""
    course = heard - slope * np.arange(len(heard)) * 0.01
    before = float(np.median(course[max(meeting - 50, 0) : max(meeting - 5, 1)]))
    fallen, gone = (int(np.flatnonzero(course > before - down)[-1]) + 1 for down in (_FALLEN_DB, _GONE_DB))
    is_fast = slope > _DYING_DB and gone - fallen < 100 * _FAST_SECONDS
    return max(fallen * 0.01 - _TAKES_SECONDS, 0.0) if is_fast else meeting * 0.01


def _two_lines(heard: Doubles) -> tuple[float, float, float]:
    """Two straight lines that meet, fitted to levels every 10 ms: where they meet, s, 0.1 s or later, and what
    the first and the second rise by, dB a second."""
    time = np.arange(len(heard)) * 0.01
    meetings = time[10 : max(len(time) - 4, 0) : 2]
    if not len(meetings):
        return 0.0, 0.0, 0.0
    since = time - meetings[:, None]  # [meetings, times]
    early, late = np.minimum(since, 0), np.maximum(since, 0)
    ones, none = np.full(len(meetings), float(len(time))), np.zeros(len(meetings))  # early and late never meet
    first, second = early.sum(axis=1), late.sum(axis=1)
    squares = np.square(early).sum(axis=1), np.square(late).sum(axis=1)
    normal = np.array([[ones, first, second], [first, squares[0], none], [second, none, squares[1]]])
    wanted = np.stack([np.full(len(meetings), heard.sum()), early @ heard, late @ heard], axis=1)
    solved = np.linalg.solve(normal.transpose(2, 0, 1), wanted[:, :, None])[:, :, 0]
    line = solved[:, :1] + solved[:, 1:2] * early + solved[:, 2:] * late
    best = int(np.abs(line - heard).sum(axis=1).argmin())
    return float(meetings[best]), float(solved[best, 1]), float(solved[best, 2])


def _floor_db(level: Doubles, quiet: float) -> float:
    """What the last quarter of a note lies at, dB, if it lies at one level as rooms do; else what its end does."""
    first, second = np.array_split(level[-max(len(level) // 4, 4) - 5 : -5], 2)
    is_level = abs(np.median(first) - np.median(second)) < _LEVEL_DB
    return max(float(np.median(np.concatenate([first, second]))), quiet) if is_level else quiet


def heard_pitch(sound: Reals, sample_rate: int = SAMPLE_RATE) -> float:
    """The MIDI pitch of a note, fractions kept: the shortest period at which it is nearly as like itself as it ever is
    (normalised autocorrelation), median over up to five places; nan if it has none between 25 and 4200 Hz."""
    mono = sound.mean(axis=0)
    width, found = int(0.16 * sample_rate), []
    loud = envelope_db(sound, width // 2, width)
    for i in np.argsort(-loud[: max(len(loud) - 2, 1)])[:5]:
        piece = mono[i * width // 2 : i * width // 2 + width].astype(np.float64)
        if len(piece) < width:
            continue
        piece = piece - piece.mean()
        size = 1 << int(np.ceil(np.log2(2 * width)))
        likeness = np.fft.irfft(np.abs(np.fft.rfft(piece, size)) ** 2)[: width // 2]
        energy = np.concatenate([[0.0], np.cumsum(piece**2)])
        lags = np.arange(width // 2)
        likeness = 2 * likeness / np.maximum(energy[width - lags] + energy[-1] - energy[lags], 1e-12)
        low, high = int(sample_rate / 4200), min(int(sample_rate / 25), width // 2 - 2)
        first = low + int(np.argmax(likeness[low:high] < 0.3)) if (likeness[low:high] < 0.3).any() else low
        inner = likeness[first : high + 1]
        peaks = first + 1 + np.flatnonzero((inner[1:-1] >= inner[:-2]) & (inner[1:-1] > inner[2:]))
        if not len(peaks) or likeness[peaks].max() < 0.4:
            continue
        lag = int(peaks[likeness[peaks] > 0.93 * likeness[peaks].max()][0])
        a, b, c = likeness[lag - 1 : lag + 2]
        found.append(69 + 12 * np.log2(sample_rate / (lag + 0.5 * (a - c) / min(a - 2 * b + c, -1e-9)) / 440))
    return float(np.median(found)) if found else float("nan")


def find_again(sound: Reals, start_seconds: float = 0.0, sample_rate: int = SAMPLE_RATE) -> int:
    """The sample at which something else follows a note: a click, a key, the next note, 8 dB louder than what the note
    has become, and that 25 dB below its loudest or lower. The end of the sound if nothing does."""
    hop, first = sample_rate // 100, round(start_seconds * 100)
    level = envelope_db(sound, hop, 2 * hop)
    level = np.convolve(np.pad(level, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    tail = level[max(first, int(level.argmax())) :]
    least = np.minimum.accumulate(tail)
    again = np.flatnonzero((least < level.max() - 25) & (tail > least + 8))
    if not len(again):
        return int(sound.shape[1])
    return (len(level) - len(tail) + int(tail[: int(again[0]) + 1].argmin()) + 1) * hop


def find_fade(sound: Reals, sample_rate: int = SAMPLE_RATE) -> int:
    """The sample at which a file begins to be faded out: where its last quarter of a second falls by 15 dB or more from
    a level no more than 40 dB below the loudest. The end of the sound if it is not."""
    hop = sample_rate // 100
    level = envelope_db(sound, hop, 2 * hop)[:-2]  # windows that reach beyond the end do not count
    if len(level) < 60:
        return int(sound.shape[1])
    before = float(np.median(level[-45:-20]))
    last = int(np.flatnonzero(level > before - 5)[-1])
    fades = before > level.max() - 40 and level[-3:].min() < before - 15 and last >= len(level) - 25
    return max(last, 1) * hop if fades else int(sound.shape[1])


def without_rumble(sound: Floats, hz: float) -> Floats:
    """A sound without what lies below a note of a frequency, from half of it on, by 36 dB an octave: there it is the
    room's and the microphone's."""
    n, more = sound.shape[1], min(SAMPLE_RATE // 4, sound.shape[1] - 1)
    padded = np.pad(sound, ((0, 0), (more, more)), mode="reflect", reflect_type="odd")  # or a rumble clicks
    size = 1 << (n + 3 * more).bit_length()  # what is cut off rings on behind the end
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    gain = (1 / np.sqrt(1 + (0.5 * hz / np.maximum(frequencies, 1)) ** 12)).astype(np.float32)
    cut = np.fft.irfft(np.fft.rfft(padded.astype(np.float32), size) * gain, size)[:, more : more + n]
    return np.ascontiguousarray(cut, np.float32)


def without_steady_rumble(sound: Floats, hz: float, hold_seconds: float) -> Floats:
    """A sound without what lies below a note of a frequency, as `without_rumble`, where that stays as loud while the
    note dies away; what is above it for a while, such as the knock of a stroke, stays, and all of it if it falls, too.

    Compared are the second quarter and the last of what is held, 0.1 s at a time.
    """
    hop, n = SAMPLE_RATE // 100, round(hold_seconds * SAMPLE_RATE)
    clear = without_rumble(sound, hz)
    level = envelope_db(sound[:, :n] - clear[:, :n], hop, 10 * hop)[:-10]
    quarter = len(level) // 4
    floor = float(np.median(level[-quarter:])) if quarter else -np.inf
    loudest = float(envelope_db(clear, hop, 2 * hop).max())
    if floor < loudest - AUDIBLE_DB or np.median(level[quarter : 2 * quarter]) > floor + _STEADY_DB:
        return sound
    heard = np.convolve(np.pad(level > floor + _ABOVE_DB, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    kept = np.interp(np.arange(sound.shape[1]) / hop - 5, np.arange(len(heard)), heard, right=0.0)
    return np.ascontiguousarray(clear + kept.astype(np.float32) * (sound - clear), np.float32)
