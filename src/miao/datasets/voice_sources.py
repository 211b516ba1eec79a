"""Where recordings of single notes come from: samples named by pitch, .sfz files, presets of sound banks, and recorded
music beside its MIDI files, of which the notes that sound alone are taken."""

from pathlib import Path

import numpy as np

from miao.datasets.samples import (
    SOUND_SUFFIXES,
    Recording,
    named_samples,
    read_samples,
)
from miao.datasets.sfz import sfz_samples
from miao.datasets.single_note import find_onset, heard_pitch
from miao.errors import DataError
from miao.midi.score import read_score
from miao.sound.audio import read_audio, resample
from miao.sound.spectrum import SAMPLE_RATE

FONT_SUFFIXES = (".sf2", ".sf3")
MIDI_SUFFIXES = (".mid", ".midi")
BEFORE_SECONDS, AFTER_SECONDS = 0.3, 0.6  # of quiet around a note that is taken out of music
FONT_PITCHES, FONT_VELOCITIES, FONT_HOLD_SECONDS = range(30, 100, 3), (56, 104), 1.5
_MISALIGNED_SECONDS = 0.08  # how far an onset may lie from where the MIDI file has it
_SHORTEST_SECONDS = 0.15


def recordings_from(
    source: Path, *, only: str | None = None, program: int | None = None
) -> tuple[list[Recording], list[str]]:
    """Recordings of single notes from a folder or file, and a line for whatever was left out or is odd.

    A folder with MIDI files beside its sound files is taken as recorded music, a folder with one .sfz file as that
    file, any other folder as samples named by their pitches. ``program`` 0..127 says which preset of an .sf2 or .sf3.
    Raises: DataError if there is nothing to learn from.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.suffix.lower() in FONT_SUFFIXES:
        return font_recordings(source, program or 0), []
    if source.is_file() and source.suffix.lower() != ".sfz":
        raise DataError(f"{source}: give a folder of samples, an .sfz, .sf2 or .sf3 file")
    if source.is_dir():
        pairs = pairs_in(source)
        if pairs:
            return music_recordings(pairs)
        sfz = sorted(source.glob("*.sfz"))
        if len(sfz) > 1:
            names = ", ".join(path.name for path in sfz)
            raise DataError(f"{source}: holds several .sfz files ({names}); give one of them")
        if sfz:
            source = sfz[0]
    samples, left_out = sfz_samples(source) if source.is_file() else named_samples(source, only)
    recordings, more = read_samples(samples)
    return recordings, left_out + more


def font_recordings(path: Path, program: int) -> list[Recording]:
    """Notes of a preset of a sound bank, every third pitch at two strengths, held 1.5 s. Raises: DataError."""
    from miao.datasets.soundfont import SoundFont

    font, recordings = SoundFont(path), []
    for pitch in FONT_PITCHES:
        for velocity in FONT_VELOCITIES:
            sound = font.note(program, pitch, velocity, FONT_HOLD_SECONDS)
            if np.abs(sound).max(initial=0.0) > 1e-4:
                name = f"{path.name}: program {program + 1}, pitch {pitch}, velocity {velocity}"
                recordings.append(Recording(name, pitch, velocity, sound, FONT_HOLD_SECONDS, True))
    font.close()
    if not recordings:
        raise DataError(f"{path}: program {program + 1} is silent")
    return recordings


def pairs_in(folder: Path) -> list[tuple[Path, Path]]:
    """Sound files in a folder and below that have a MIDI file of the same name beside them: (sound, MIDI)."""
    pairs = []
    for sound in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES):
        midi = [sound.with_suffix(suffix) for suffix in MIDI_SUFFIXES if sound.with_suffix(suffix).is_file()]
        pairs += [(sound, path) for path in midi[:1]]
    return pairs


def music_recordings(pairs: list[tuple[Path, Path]]) -> tuple[list[Recording], list[str]]:
    """Those notes of recorded music that sound alone: nothing else sounds from 0.3 s before a note to 0.6 s after it is
    let go, its onset is heard where the MIDI file has it (within 80 ms) and so is its pitch.

    The first line says how many of all notes that are. Raises: DataError if there are none.
    """
    recordings, remarks, n_all = [], [], 0
    for sound_path, midi_path in pairs:
        audio = resample(read_audio(sound_path), SAMPLE_RATE)
        notes = np.concatenate([track.notes for track in read_score(midi_path).tracks])
        notes = notes[np.argsort(notes["start"], kind="stable")]
        n_all += len(notes)
        ends = np.maximum.accumulate(notes["damp"])
        for i, note in enumerate(notes):
            start, damp = float(note["start"]), float(note["damp"])
            before = float(ends[i - 1]) if i else -np.inf
            following = float(notes["start"][i + 1]) if i + 1 < len(notes) else damp + AFTER_SECONDS + 1
            if note["is_drum"] or start - before < BEFORE_SECONDS or following - damp < AFTER_SECONDS:
                continue
            if damp - start < _SHORTEST_SECONDS:
                continue
            lead = max(start - 0.15, 0.0)
            stop = min(following - 0.02, damp + 3)
            piece = audio.samples[:2, int(lead * SAMPLE_RATE) : int(stop * SAMPLE_RATE)]
            where = f"{sound_path.name} at {start:.2f} s"
            if piece.shape[1] < 0.1 * SAMPLE_RATE or np.abs(piece).max() < 1e-4:
                remarks.append(f"{where}: silent")
                continue
            onset = find_onset(piece)
            late = lead + onset / SAMPLE_RATE - start
            piece = piece[:, onset:]
            heard = heard_pitch(piece[:, : int((damp - start) * SAMPLE_RATE)])
            if abs(late) > _MISALIGNED_SECONDS:
                remarks.append(f"{where}: starts {1000 * late:+.0f} ms from where the MIDI file has it")
            elif not np.isnan(heard) and abs((heard - note["pitch"] + 6) % 12 - 6) > 0.6:
                remarks.append(f"{where}: pitch {int(note['pitch'])} sounds as {heard:.1f}")
            else:
                hold = max(damp - start - late, _SHORTEST_SECONDS)
                recordings.append(Recording(where, int(note["pitch"]), int(note["velocity"]), piece, hold, True))
    remarks.insert(0, f"{len(recordings)} of {n_all} notes sound alone and are learnt from")
    if not recordings:
        raise DataError("no note of these recordings sounds alone: " + "; ".join(remarks[:3]))
    return recordings, remarks
