"""How well notes that sound together are measured, against the same notes alone, and how recordings come back.

    python bench/polyphony.py --soundfont MuseScore_General_Full.sf2 --recordings recordings

Chords of random notes of a sound bank, staggered by up to 0.25 s: each note's levels as measured in the mix, by
`measure_notes` (joint) and by `analyse_note` of what sounds from its start on (naive), against those of the note
rendered alone. Levels are over cells within 35 dB of the note's loudest; the round trip is the log-mel error of all
measured notes, played by the engine, against the mix. Recordings have their own notes, aligned; theirs is the round
trip only.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from miao.bank import tokens as tk
from miao.bank.voices import program_voice
from miao.datasets.pairs import PAIR_NOTE
from miao.datasets.prepare import part_notes
from miao.datasets.soundfont import SAMPLE_RATE, PlayedNote, SoundFont
from miao.evaluation.encoded import measured_bank, measured_track
from miao.evaluation.recordings import plan_recordings
from miao.measuring.align import align
from miao.measuring.note import analyse_note
from miao.measuring.part_voices import Fits, nominal_hz, table_of
from miao.measuring.polyphony import FEWEST_SURE, measure_notes
from miao.measuring.roundtrip import play
from miao.midi.score import Curve, Score
from miao.sound import spectrum

RANGES = {0: (40, 84), 24: (42, 80), 40: (56, 90), 71: (52, 85)}
KINDS = ("1", "2", "4", "8", "octave", "fifth", "octave and fifth")
WITHIN_DB = 35.0


def chords(kind: str, n: int, lowest: int, highest: int, rng: np.random.Generator) -> list[list[int]]:
    """Pitches of chords: so many random ones, or intervals on random roots."""
    if kind.isdigit():
        return [sorted(rng.choice(np.arange(lowest, highest), int(kind), replace=False).tolist()) for _ in range(n)]
    steps = {"octave": (0, 12), "fifth": (0, 7), "octave and fifth": (0, 12, 19)}[kind]
    return [[int(root) + s for s in steps] for root in rng.integers(lowest, highest - steps[-1], n)]


def scene(kind: str, program: int, n: int) -> np.ndarray:
    """Notes of chords that start a second apart."""
    rng = np.random.default_rng(0)
    rows = []
    for number, pitches in enumerate(chords(kind, n, *RANGES[program], rng)):
        for pitch in pitches:
            start = 0.3 + number + rng.uniform(0, 0.25)
            damp = start + rng.uniform(0.4, 0.9)
            rows.append((start, damp, damp, pitch, int(rng.integers(60, 110)), program))
    notes = np.sort(np.array(rows, PAIR_NOTE), order=("start", "pitch"))
    for note in notes:
        again = notes["start"][(notes["pitch"] == note["pitch"]) & (notes["start"] > note["start"])]
        note["damp"] = min(note["damp"], again.min(initial=np.inf) - 0.02)
    return notes


def naive(sound: np.ndarray, notes: np.ndarray, fits: Fits) -> dict[int, tk.NoteTokens]:
    """Each note measured as if it were alone from its start on."""
    found = {}
    for n, note in enumerate(notes):
        hold = float(np.clip(note["damp"] - note["start"], 0.01, 20))
        first = round(float(note["start"]) * SAMPLE_RATE)
        piece = sound[:, max(first, 0) : first + round((hold + 1) * SAMPLE_RATE)]
        if piece.shape[1] > 100:
            place = int(note["voice"]), int(note["pitch"])
            found[n] = analyse_note(piece, SAMPLE_RATE, nominal_hz(*place), hold, fits[place].partials()).tokens
    return found


def level_errors(alone: tk.NoteTokens, tokens: tk.NoteTokens) -> dict[str, tuple[float, int]]:
    """Sum of the level errors (dB) of a note's held part and their number, for partials and noise."""
    n = min(len(alone.held), len(tokens.held))
    theirs, ours = (x.held[:n].astype(float) * tk.LEVEL_STEP_DB for x in (alone, tokens))
    threshold = theirs[:, :, : tk.PITCH_CELL].max() - WITHIN_DB
    errors = {}
    for name, cells in (("partials", slice(0, tk.N_PARTIALS)), ("noise", slice(tk.N_PARTIALS, tk.PITCH_CELL))):
        a, b = theirs[:, :, cells], np.maximum(ours[:, :, cells], threshold - 10)
        counts = a > threshold
        errors[name] = float(np.abs(a - b)[counts].sum()), int(counts.sum())
    return errors


def played_again(tokens: dict, notes: np.ndarray, fits: Fits, n_samples: int) -> np.ndarray:
    """The measured notes of a part, played by the engine."""
    track = measured_track(notes)
    score = Score((track,), float(notes["damp"].max()), Curve(np.zeros(1), np.full(1, 120.0), 120.0), (), ())
    sound = play(measured_bank(tokens, table_of(fits)), score)
    return np.pad(sound, ((0, 0), (0, max(n_samples - sound.shape[1], 0))))[:, :n_samples]


def measured_chords(font: SoundFont, kind: str, program: int, n: int) -> dict:
    """Errors of one kind of chord."""
    notes = scene(kind, program, n)
    played = [PlayedNote(float(x["start"]), float(x["damp"]), int(x["pitch"]), int(x["velocity"])) for x in notes]
    sound = font.phrase(program, played, float(notes["damp"].max()) + 1.5)
    began = time.process_time()
    joint = measure_notes(sound, SAMPLE_RATE, notes)
    row: dict = {"program": program, "kind": kind, "sure": round(float(joint.sure.mean()), 2),
                 "speed": round(sound.shape[1] / SAMPLE_RATE / (time.process_time() - began), 2)}  # fmt: skip
    sums: dict[str, list[float]] = {}
    single = naive(sound, notes, joint.fits)
    for i, note in enumerate(notes):
        hold, place = float(note["damp"] - note["start"]), (program_voice(program), int(note["pitch"]))
        alone = font.note(program, place[1], int(note["velocity"]), hold)
        truth = analyse_note(alone, SAMPLE_RATE, nominal_hz(*place), hold, joint.fits[place].partials()).tokens
        for system, tokens in (("joint", joint.tokens.get(i)), ("naive", single.get(i))):
            if tokens is None:
                continue
            for name, (total, count) in level_errors(truth, tokens).items():
                sums.setdefault(f"{system} {name}", [0, 0])
                before = sums[f"{system} {name}"]
                sums[f"{system} {name}"] = [before[0] + total, before[1] + count]
    row |= {name: round(total / max(count, 1), 2) for name, (total, count) in sums.items()}
    mel = spectrum.log_mel(sound)
    for system, tokens in (("joint", joint.tokens), ("naive", single)):
        again = played_again(tokens, notes, joint.fits, sound.shape[1])
        row[f"{system} round trip"] = round(spectrum.log_mel_error(mel, spectrum.log_mel(again)), 2)
    return row


def measured_recording(plan, is_aligned: bool) -> dict:
    """Round trips of one recording, part by part where there are stems."""
    material = plan.read()
    parts = [(material.audio.samples, range(len(material.score.tracks)))]
    if material.stems:
        parts = [(stem.samples, [n]) for n, stem in enumerate(material.stems)]
    row: dict = {"name": plan.name, "notes": 0, "measured": 0, "seconds": material.seconds}
    sums = {"joint": 0.0, "naive": 0.0}
    used = 0.0
    for samples, tracks in parts:
        notes = part_notes(material.score, tracks)
        place = align(samples, SAMPLE_RATE, notes)
        row |= {"offset_ms": round(1000 * place.offset_seconds), "tuning": round(place.tuning_cents, 1),
                "confidence": round(place.confidence, 2)}  # fmt: skip
        if is_aligned and place.confidence > 0.2:
            notes = place.moved(notes)
            notes["start"] = np.maximum(notes["start"], 0)
        began = time.process_time()
        joint = measure_notes(samples, SAMPLE_RATE, notes, tuning_cents=place.tuning_cents)
        used += time.process_time() - began
        row["notes"] += len(notes)
        row["measured"] += int((joint.sure >= FEWEST_SURE).sum())
        mel = spectrum.log_mel(samples)
        for system, tokens in (("joint", joint.tokens), ("naive", naive(samples, notes, joint.fits))):
            again = played_again(tokens, notes, joint.fits, samples.shape[1])
            sums[system] += spectrum.log_mel_error(mel, spectrum.log_mel(again)) / len(parts)
    row |= {f"{system} round trip": round(value, 2) for system, value in sums.items()}
    row["speed"] = round(material.seconds * len(parts) / used, 2)
    return row


def main() -> None:
    """Measure and print a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", type=Path)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--programs", type=int, nargs="*", default=[0, 71])
    parser.add_argument("--chords", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each recording")
    parser.add_argument("--only", default="", help="recordings whose names begin so")
    parser.add_argument("--every", type=int, default=1, help="only every n-th recording of a group")
    parser.add_argument("--unaligned", action="store_true", help="take the notes' times as they are")
    arguments = parser.parse_args()
    if arguments.soundfont:
        font = SoundFont(arguments.soundfont)
        for program in arguments.programs:
            for kind in KINDS:
                print(json.dumps(measured_chords(font, kind, program, arguments.chords)), flush=True)
    if arguments.recordings:
        plans, _, _ = plan_recordings([arguments.recordings], arguments.seconds)
        seen: dict[str, int] = {}
        for plan in plans:
            seen[plan.group] = seen.get(plan.group, -1) + 1
            if plan.name.startswith(arguments.only) and seen[plan.group] % arguments.every == 0:
                print(json.dumps(measured_recording(plan, not arguments.unaligned)), flush=True)


if __name__ == "__main__":
    main()
