"""Recorded single notes: what their names say, where they start, how long they were held, and whether they are in tune
with their names.

Three kinds of source: a folder of files named by pitch ("cello_A2_1_forte.mp3", "a2_f_rr1.flac", "60.wav"), an .sfz
file, and a preset of a sound bank (.sf2, .sf3). All end as `Recording`s, which `measure` turns into audio tokens and
one row of a voice table.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats, Reals
from miao.bank.voices import pitch_hz
from miao.errors import AudioError, DataError
from miao.sound.audio import read_audio, resample
from miao.sound.spectrum import SAMPLE_RATE

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff")
DYNAMICS = {  # words and letters for how strongly a note is played, as the velocities that notation programs give them
    "ppp": 16, "pp": 33, "pianissimo": 33, "p": 49, "piano": 49, "soft": 49, "mp": 64, "mezzo-piano": 64,
    "mf": 80, "mezzo-forte": 80, "medium": 80, "f": 96, "forte": 96, "hard": 96, "ff": 112, "fortissimo": 112,
    "fff": 126,
}  # fmt: skip
PLAIN_VELOCITY = 96  # of a note whose name says nothing
LAYERS = (40, 112)  # velocities of the softest and the loudest of layers that are numbered v1, v2, ...
_CUT_OFF_DB = 15.0  # a file that ends no further below its top was cut off
_LEAST_OF_LAYER = 5  # notes that say that a layer is named by another octave
_LEVEL_DB = 2.0  # by which the halves of what is left of a note differ where it is the room
LONGEST_SECONDS = 8.0  # of a note that is looked at
_SWELLS = re.compile(r"cresc|trill|tremolo|gliss|swell")  # these are not one note at one strength
_PITCH = re.compile(r"([a-g])(#|s|b|♯|♭|sharp|flat)?(-?\d)$", re.IGNORECASE)
_LAYER = re.compile(r"(?:^|[ _.-])v(?:l|el)?(\d)(?=[ _.-]|$)|(?<=\d)v(\d{1,2})$")  # v1, vl1, vel1; A4v16
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


@dataclass(frozen=True)
class Sample:
    """A sound file with one note and what its name, or the .sfz around it, says."""

    path: Path
    pitch: int
    velocity: int
    gain_db: float = 0.0  # that the instrument gives it


@dataclass(frozen=True)
class Recording:
    """One note alone, from its start."""

    name: str
    pitch: int
    velocity: int
    sound: Floats  # [channels, S] at 44.1 kHz
    hold_seconds: float
    is_released: bool  # whether it is heard being let go


# --- names ------------------------------------------------------------------------------------------------------


def named_pitch(stem: str) -> int | None:
    """The MIDI pitch that a file name says, C4 = 60, or a bare number of 21 to 108; None if it says none."""
    words = _words(re.sub(r"(?<=\d)v\d{1,2}$", "", stem))
    for match in filter(None, map(_PITCH.fullmatch, words)):
        letter, sign, octave = match[1].lower(), (match[2] or "").lower(), int(match[3])
        shift = {"": 0, "#": 1, "s": 1, "♯": 1, "sharp": 1}.get(sign, -1)
        return 12 * (octave + 1) + _STEPS[letter] + shift
    numbers = [int(word) for word in words if re.fullmatch(r"\d{2,3}", word) and 21 <= int(word) <= 108]
    return numbers[0] if numbers else None


def named_velocity(stem: str) -> int | None:
    """The velocity that a file name says: v64 or vel64, or a dynamic from ppp to fff, in letters (fa, fb are takes of
    f) or words, the last one (an instrument may be called piano, too). None if it says none."""
    words = re.split(r"[ _.]+", stem.lower())
    for match in filter(None, (re.fullmatch(r"v(?:el)?(\d{2,3})", word) for word in words)):
        return min(max(int(match[1]), 1), 127)
    takes = [re.sub(r"^(p{1,3}|mp|mf|f{1,3})[a-d]$", r"\1", word) for word in words]
    for word in takes[:0:-1] or takes:  # not the first, unless there is no other
        if word in DYNAMICS:
            return DYNAMICS[word]
    return None


def _words(stem: str) -> list[str]:
    """A name at its blanks, underscores, dots, and dashes that are no minus."""
    return re.split(r"[ _.\-]+(?=\D)|[ _.]+", stem)


def named_samples(folder: Path, only: str | None = None) -> tuple[list[Sample], list[str]]:
    """The samples in a folder and below by their names, and a line for each file that is left out and why.

    ``only`` is a pattern for file names, such as "pizz*". Numbered layers (v1 or vl1, v2, ...; A4v16) are spread
    evenly over velocities 40 to 112. Raises: DataError if there are none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES)
    paths = [p for p in paths if only is None or fnmatch.fnmatch(p.name.lower(), only.lower())]
    numbers = [_LAYER.search(p.stem.lower()) for p in paths]
    layers = [int(match[1] or match[2]) if match else 0 for match in numbers]
    n_layers = max(layers, default=1)
    samples, left_out = [], []
    for path, layer in zip(paths, layers, strict=True):
        pitch, velocity = named_pitch(path.stem), named_velocity(path.stem)
        if _SWELLS.search(path.stem.lower()):
            left_out.append(f"{path.name}: by its name not one note at one strength")
        elif pitch is None:
            left_out.append(f"{path.name}: its name says no pitch")
        else:
            if velocity is None and layer:
                velocity = round(np.interp(layer, (1, max(n_layers, 2)), LAYERS))
            samples.append(Sample(path, pitch, velocity or PLAIN_VELOCITY))
    if not samples:
        looked_for = f" that are called {only}" if only else ""
        raise DataError(
            f"{folder}: no sound files{looked_for} whose names say their pitch, as cello_A2_forte.wav or 60.wav"
        )
    return samples, left_out


# --- sounds -----------------------------------------------------------------------------------------------------


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
    or more. Where the second falls by 20 dB a second or more, and three times as fast as the first, they meet where the
    note was let go. (Fits further down would find where files were faded out.) Else it was held to its end: a string
    that rings until it is silent (60 dB below its peak, or no more than 6 dB above the noise that its file ends with),
    or a file that was cut off. A soft note may end in the room's noise 15 dB below it.
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
            return peak * 0.01 + meeting_seconds, True
    return lasted * 0.01, False


def _two_lines(heard: Doubles) -> tuple[float, float, float]:
    """Two straight lines that meet, fitted to levels every 10 ms: where they meet, s, 0.1 s or later, and what
    the first and the second rise by, dB a second."""
    time, best = np.arange(len(heard)) * 0.01, (np.inf, 0.0, 0.0, 0.0)
    for meeting in range(10, len(time) - 4, 2):
        columns = [np.ones(len(time)), np.minimum(time - time[meeting], 0), np.maximum(time - time[meeting], 0)]
        x = np.stack(columns, axis=1)
        solved, *_ = np.linalg.lstsq(x, heard, rcond=None)
        error = float(np.abs(x @ solved - heard).sum())
        if error < best[0]:
            best = (error, float(time[meeting]), float(solved[1]), float(solved[2]))
    return best[1:]


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
    gain = 1 / np.sqrt(1 + (0.5 * hz / np.maximum(frequencies, 1)) ** 12)
    cut: Floats = np.fft.irfft(np.fft.rfft(padded, size) * gain, size)[:, more : more + n].astype(np.float32)
    return cut


def as_note(name: str, pitch: int, velocity: int, sound: Floats) -> Recording:
    """A sound [channels, S] as a note that was recorded: from its start, its hold estimated, to where something else
    follows, where it has rung out or where the file is faded out. What lies below it does not count in that: many a
    rumble is louder than a soft note's start, and goes on behind it.

    Raises: AudioError if less than 0.1 s is left.
    """
    hz = float(pitch_hz(pitch))
    sound = sound[:, find_onset(without_rumble(sound, hz)) :][:, : int(LONGEST_SECONDS * SAMPLE_RATE)]
    if sound.shape[1] < 0.1 * SAMPLE_RATE:
        raise AudioError(f"{name}: shorter than 0.1 s")
    clear = without_rumble(sound, hz)
    hold, is_released = find_release(clear)
    if not is_released:  # for what follows, perhaps
        hold_until, is_released = find_release(clear[:, : find_again(clear)])
        hold = hold_until if is_released else hold
    end = find_again(clear, hold) if is_released else min(find_fade(clear), round(hold * SAMPLE_RATE))
    sound = sound[:, :end]
    return Recording(name, pitch, velocity, sound, min(hold, sound.shape[1] / SAMPLE_RATE), is_released)


def recorded(sample: Sample) -> Recording:
    """A sample read, as `as_note` says. Raises: AudioError."""
    audio = resample(read_audio(sample.path), SAMPLE_RATE)
    sound = audio.samples[:2] * np.float32(10 ** (sample.gain_db / 20))
    if not np.abs(sound).max(initial=0.0) > 1e-4:
        raise AudioError(f"{sample.path.name}: silent")
    return as_note(sample.path.name, sample.pitch, sample.velocity, sound)


def read_samples(samples: Iterable[Sample]) -> tuple[list[Recording], list[str]]:
    """All samples as recordings whose pitch is the one heard, and a line for each file left out or odd convention.

    The semitones that most files lie off their names (octaves are counted differently, parts are written transposed)
    are added to all, octaves that whole layers lie off to these; files that then disagree with their names by more than
    0.6 are left out and named.
    Raises: DataError if nothing is left.
    """
    recordings, left_out = [], []
    for sample in samples:
        try:
            recordings.append(recorded(sample))
        except AudioError as error:
            left_out.append(str(error))
    heard = np.array([heard_pitch(r.sound) for r in recordings])
    off = heard - np.array([r.pitch for r in recordings])
    counts = Counter(np.rint(off[~np.isnan(off)]).astype(int).tolist())
    shift, n = counts.most_common(1)[0] if counts else (0, 0)
    if shift and n < 0.6 * len(recordings):
        shift = 0
    if shift:
        left_out.insert(0, f"all names: the notes sound {shift:+d} semitones from what they are called; taken as heard")
    off = off - shift
    for velocity, octaves in _octaves_of_layers(recordings, off).items():
        left_out.append(
            f"all names of strength {velocity}: the notes sound {12 * octaves:+d} semitones; taken as heard"
        )
        as_named = np.abs(off) < 6  # a few are called what they sound
        at = np.array([r.velocity == velocity for r in recordings]) & ~as_named
        recordings = [replace(r, pitch=r.pitch + 12 * octaves * int(m)) for r, m in zip(recordings, at, strict=True)]
        off = off - 12 * octaves * at
    kept = []
    for recording, difference in zip(recordings, off, strict=True):
        n_octaves = 0 if np.isnan(difference) else round(difference / 12)
        if abs(difference - 12 * n_octaves) > 0.6:
            left_out.append(f"{recording.name}: sounds {difference:+.1f} semitones from its name")
            continue
        if n_octaves:  # more often a mistake of ours than of the name
            left_out.append(f"{recording.name}: seems to sound {12 * n_octaves:+d} semitones from its name; kept")
        kept.append(replace(recording, pitch=recording.pitch + shift))
    if not kept:
        raise DataError("no sample is left to learn from: " + "; ".join(left_out[:3]))
    return kept, left_out


def _octaves_of_layers(recordings: Sequence[Recording], off: Doubles) -> dict[int, int]:
    """By how many octaves the names of whole layers are off, by velocity: who named them heard an overtone."""
    found = {}
    for velocity in sorted({r.velocity for r in recordings}):
        layer = off[[r.velocity == velocity for r in recordings]]
        octaves = np.rint(layer[~np.isnan(layer)] / 12).astype(int)
        counts = Counter(octaves[np.abs(layer[~np.isnan(layer)] - 12 * octaves) < 0.6].tolist())
        n, count = counts.most_common(1)[0] if counts else (0, 0)
        if n and count >= max(_LEAST_OF_LAYER, 0.8 * len(layer)):
            found[velocity] = n
    return found


def note_hz(recording: Recording) -> float:
    """Nominal frequency."""
    return float(pitch_hz(recording.pitch))
