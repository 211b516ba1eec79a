"""What can be wrong with recordings on disk, and how it is found.

Every sound file is opened and its end is looked for; every score is read; lengths are compared; and the first minute
of each mix, or of each part where there is none, is listened to: where notes start, levels rise. The notes count as
misaligned if the rises fit them much better when shifted by more than MISALIGNED_SECONDS, up to MAX_SHIFT_SECONDS;
music that repeats itself in step, or swells without attacks, fits many shifts or none, and is not judged. On a minute
each of 37 real recordings (23 of piano, 8 of drums, 6 of a violin) the check raised no false alarm; of notes moved by
0.1 s it named 25, by 0.2 s 33, by 0.5 s 32.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from miao.arrays import Doubles
from miao.bank.frames import AUDIO_FRAME_SECONDS
from miao.datasets.recordings import Fault, Part, Recording
from miao.errors import DataError, MiaoError
from miao.midi.score import Score
from miao.sound.audio import Audio, SoundHeader, read_audio, read_header, resample
from miao.sound.spectrum import SAMPLE_RATE, log_mel

Progress = Callable[[float], None]

SLACK_SECONDS = 0.5  # by which sound may end before the last note's end
SILENCE_SECONDS = 30.0  # by which it may go on
LISTEN_SECONDS = 60.0
MISALIGNED_SECONDS = 0.06
MAX_SHIFT_SECONDS = 3.0
_MIN_ATTACKS = 12  # of which nothing can be said with fewer
_MIN_FIT = 0.15  # correlation, of long sounds; of short ones it may be higher by chance
_ATTACK_SECONDS = 0.05
_BETTER = 1.2  # times the correlation without a shift
_FLOOR_DB = -90.0
_HARMLESS = "never ended"  # of a score's warnings: what synthesisers end by themselves


def find_home(root: Path, folders: Sequence[str], is_home: Callable[[Path], bool], wanted: str) -> Path:
    """The folder of a data set: the root itself, or a folder in it of a usual name. Raises: DataError."""
    for place in (root, *(root / folder for folder in folders)):
        if place.is_dir() and is_home(place):
            return place
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder")
    raise DataError(f"{root}: {wanted} is neither there nor in {', '.join(folders)}")


def relative(path: Path, root: Path) -> str:
    """A path as faults name it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def missing(paths: Sequence[Path], root: Path) -> list[Fault]:
    """A fault for each file that is not there, or is empty."""
    faults = [Fault(relative(path, root), "missing") for path in paths if not path.is_file()]
    return faults + [Fault(relative(p, root), "is empty") for p in paths if p.is_file() and not p.stat().st_size]


def check_recordings(recordings: Sequence[Recording], root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is wrong with the files that these recordings are made of."""
    faults: list[Fault] = []
    for n, recording in enumerate(recordings, start=1):
        faults += check_recording(recording, root)
        if on_progress:
            on_progress(n / len(recordings))
    return faults


def check_recording(recording: Recording, root: Path) -> list[Fault]:
    """What is wrong with the files of one recording."""
    parts = [part for part in (recording.mix, *recording.stems) if part is not None]
    faults: list[Fault] = []
    headers: dict[Path, SoundHeader] = {}
    for path in dict.fromkeys(part.audio for part in parts):
        try:
            headers[path] = read_header(path)
        except MiaoError as error:
            faults.append(_fault(error, root, recording))
            continue
        if not headers[path].is_whole:
            faults.append(Fault(relative(path, root), "truncated: the file ends before its sound does"))
    for part in parts:
        if part.audio in headers and (part.channel or 0) >= headers[part.audio].channels:
            what = f"{headers[part.audio].channels} channels; channel {(part.channel or 0) + 1} is wanted"
            faults.append(Fault(relative(part.audio, root), what))
    whole = headers.get(parts[0].audio) if parts else None
    for path, header in headers.items():
        if whole and abs(header.duration - whole.duration) > SLACK_SECONDS:
            what = f"lasts {header.duration:.2f} s, {parts[0].audio.name} {whole.duration:.2f} s"
            faults.append(Fault(relative(path, root), what))
    try:
        score = recording.read_score()
    except MiaoError as error:
        return [*faults, _fault(error, root, recording)]
    faults += [_fault(warning, root, recording) for warning in score.warnings if _HARMLESS not in warning]
    for part in parts[:1] if recording.mix else parts:
        if part.audio in headers:
            faults += check_lengths(part, headers[part.audio].duration, score, root)
            faults += check_alignment(part, score, root)
    return faults


def check_published_length(path: Path, seconds: float, root: Path) -> list[Fault]:
    """A fault if a sound file is not as long as its authors say; none if it cannot be read, which is another fault."""
    try:
        found = read_header(path).duration
    except MiaoError:
        return []
    if abs(found - seconds) <= SLACK_SECONDS:
        return []
    return [Fault(relative(path, root), f"lasts {found:.2f} s, {seconds:.2f} s are published")]


def check_lengths(part: Part, seconds: float, score: Score, root: Path) -> list[Fault]:
    """Faults if notes lie outside the sound, or far from its end."""
    notes = [score.tracks[n].notes for n in part.tracks]
    last = max((float(track["end"].max()) for track in notes), default=0.0)
    outside = sum(int((track["start"] >= seconds).sum()) for track in notes)
    if outside or last > seconds + SLACK_SECONDS:
        what = f"sound ends {last - seconds:.1f} s before the notes"
        return [Fault(relative(part.audio, root), what + f"; {outside} notes lie outside it" * (outside > 0))]
    if seconds - last > max(SILENCE_SECONDS, 0.2 * seconds):
        return [Fault(relative(part.audio, root), f"notes end {seconds - last:.1f} s before the sound")]
    return []


def check_alignment(part: Part, score: Score, root: Path) -> list[Fault]:
    """A fault if the notes of a part stand beside the sound."""
    try:
        sound = read_audio(part.audio, LISTEN_SECONDS)
    except MiaoError:
        return []
    starts = np.concatenate([np.zeros(0), *(score.tracks[n].notes["start"] for n in part.tracks)])
    if part.channel is not None and part.channel < sound.channels:
        sound = Audio(sound.samples[part.channel : part.channel + 1], sound.sample_rate)
    shift = misalignment(sound, starts)
    if shift is None:
        return []
    side = "after" if shift > 0 else "before"
    return [Fault(relative(part.audio, root), f"sound comes {abs(shift):.2f} s {side} the notes")]


def misalignment(sound: Audio, starts: Doubles) -> float | None:
    """By how many seconds a sound comes after the notes that start at ``starts``; None if it does not, or nothing can
    be said. Found to 10 ms."""
    starts = starts[starts < sound.duration]
    if len(np.unique(starts.round(2))) < _MIN_ATTACKS:
        return None
    mono = Audio(sound.samples.mean(axis=0, keepdims=True), sound.sample_rate)
    mel = log_mel(resample(mono, SAMPLE_RATE).samples, _FLOOR_DB, hop_samples=round(AUDIO_FRAME_SECONDS * SAMPLE_RATE))
    if mel.max() <= _FLOOR_DB + 20:
        return None
    rises = np.maximum(np.diff(mel, axis=0, prepend=mel[:1]), 0).mean(axis=1)
    attacks = np.zeros(len(rises))
    frames = np.rint(starts / AUDIO_FRAME_SECONDS).astype(int)
    np.add.at(attacks, np.minimum(frames, len(attacks) - 1), 1.0)
    kernel = np.hanning(7)[1:-1]  # 50 ms: an attack rises over some frames
    rises, attacks = (np.convolve(np.sqrt(x), kernel, "same") for x in (rises, attacks))
    rises, attacks = (x - x.mean() for x in (rises, attacks))
    scale = math.sqrt(float((rises**2).sum() * (attacks**2).sum()))
    if not scale:
        return None
    reach = min(round(MAX_SHIFT_SECONDS / AUDIO_FRAME_SECONDS), len(rises) - 1)
    n = 2 * len(rises)
    fit = np.fft.irfft(np.fft.rfft(rises, n) * np.conj(np.fft.rfft(attacks, n)), n) / scale
    shifts = np.arange(-reach, reach + 1)
    fit = fit[shifts]
    is_near = np.abs(shifts) * AUDIO_FRAME_SECONDS <= MISALIGNED_SECONDS
    best = int(np.argmax(fit))
    by_chance = 4 / math.sqrt(sound.duration / _ATTACK_SECONDS)  # the best of hundreds of shifts
    least = max(_MIN_FIT, by_chance, _BETTER * float(fit[is_near].max()))
    if is_near[best] or fit[best] < least:
        return None
    return float(shifts[best] * AUDIO_FRAME_SECONDS)


def _fault(problem: MiaoError | str, root: Path, recording: Recording) -> Fault:
    """A message that starts with the path it is about, as ours do, or else is about the recording."""
    path, _, what = str(problem).partition(": ")
    return Fault(relative(Path(path), root), what) if what else Fault(recording.name, path)
