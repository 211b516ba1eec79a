"""Default voices learnt from recorded notes: how near held-out notes they come, beside the teacher and sound banks.

    python bench/real_notes.py FOLDER --soundfont MuseScore_General_Full.sf2 --soundfont FluidR3_GM.sf2 -o results/real
    python bench/real_notes.py FOLDER --soundfont ... -o results/real --install my-bank

FOLDER holds the recordings (`real_sources.py` says where); what is missing is left out. Every fifth pitch of a set is
held out, with all its strengths; each system plays these notes at the constant gain that suits it best, or, where all
strengths were recorded at one level, at the gain that suits it best for each strength. A voice is to be in tune and
players seldom are, so recorded notes are set to the tuning of what plays them; in parentheses stands the error as they
were recorded. What lies below notes and stays as loud all the while, as rooms and microphones rumble, is cut off.
Loudness and brightness: rank correlation with all recordings over the strengths, means of all pitches (`follows`). A
voice may take the place of its program if it passes the gate (`refusals`): nearer than the program and every sound bank
by 0.5 dB, neighbouring keys within 1 dB, never softer where it is struck harder, held notes that last within 3 dB of
their level up to 20 s, decays within 4 dB of the recordings' or as near as the program's. Resumable: voices and rows
that are there are kept. ``--install`` learns those that passed once more, from all notes, and puts them into a bank's
folder if they pass again in all that needs no notes left out; ``--waver`` gives those of `WAVERING`, as they are, the
waver of their notes anew.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from real_sources import SOURCES, WAVERING, Source, read
from scipy.stats import spearmanr

from miao import __version__
from miao.bank.bank import Bank
from miao.bank.defaults import default_path
from miao.bank.folder import bank_folder, changed
from miao.bank.learnt_voice import LearntVoice
from miao.bank.voices import MODES
from miao.datasets.notes import PITCHES
from miao.datasets.samples import Recording, note_hz
from miao.datasets.soundfont import SoundFont
from miao.evaluation.held_notes import MOMENTS
from miao.evaluation.held_notes import levels as held_levels
from miao.measuring.roundtrip import one_note_score, play
from miao.measuring.voice_fit import fit_voice
from miao.midi.general_midi import program_name
from miao.sound import spectrum
from miao.sound.audio import Audio, resample
from miao.sound.loudness import energy_db
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.brightness import brightness, steps_by_strength
from miao.training.default_voice import cut_below, learn_default
from miao.training.evenness import first_second_db
from miao.training.key_gains import recorded_dynamics, rising
from miao.training.new_voice import held_out_pitches
from miao.training.wavering import wavering

GAINS_DB = np.arange(-24.0, 25.0)
STROKES = (16, 32, 48, 64, 80, 96, 112, 127)
AROUND = 6  # semitones beyond the recorded range that keys are compared in
NEARER_DB, EVEN_DB, FALL_DB, HELD_DB, DECAY_DB = 0.5, 1.0, 0.1, 3.0, 4.0
HELD_SECONDS, DECAY_SECONDS = (5, 10, 20), (2, 3)


def played(bank: Bank, voice: int, note: Recording) -> np.ndarray:
    """A recorded note as a voice of a bank plays it."""
    sound = play(bank, one_note_score(0, note.pitch, note.velocity, note.hold_seconds), voice=voice)
    return sound if note.is_released else sound[:, : note.sound.shape[1]]


def tuning(note: Recording, sound: np.ndarray, kind: int) -> float:
    """How many cents a note sounds too high; 0 of modes, whose pitch is their own."""
    return 0.0 if kind == MODES else fit_voice(sound, SAMPLE_RATE, note_hz(note), kind).tune_cents


def tuned(note: Recording, cents: float) -> np.ndarray:
    """Log-mel spectrogram of a recorded note, played so many cents higher by being played faster."""
    rate = round(SAMPLE_RATE * 2 ** (cents / 1200))
    return spectrum.log_mel(resample(Audio(note.sound, rate), SAMPLE_RATE).samples)


def sampled(font: SoundFont, program: int, note: Recording) -> np.ndarray:
    """A recorded note as a sound bank plays it."""
    sound = font.note(program, note.pitch, note.velocity, note.hold_seconds)
    return sound if note.is_released else sound[:, : note.sound.shape[1]]


def errors(
    notes: list[Recording], tunings: list[float], sounds: list[np.ndarray], groups: list[int], kind: int
) -> tuple[float, float]:
    """Mean log-mel error (dB) at the constant gain that suits each group of notes best: at the tuning of the sounds,
    and at the notes' own, ``tunings`` (cents)."""
    at = [np.array(groups) == group for group in set(groups)]
    mels = [spectrum.log_mel(sound) for sound in sounds]
    in_tune = [tuned(n, tuning(n, s, kind) - own) for n, own, s in zip(notes, tunings, sounds, strict=True)]
    found = []
    for targets in [in_tune, [n.mel for n in notes]]:
        pairs = zip(targets, mels, strict=True)
        by_gain = np.array([[spectrum.log_mel_error(a, b + gain) for gain in GAINS_DB] for a, b in pairs])
        found.append(float(sum(by_gain[which].sum(axis=0).min() for which in at) / len(mels)))
    return found[0], found[1]


def loudness_and_brightness(sound: np.ndarray, hold_seconds: float) -> tuple[float, float]:
    """Power (dB) of the first second, or of what is held if that is shorter, and the centre of the log-mel bands of the
    first second weighted by amplitude."""
    seconds = min(hold_seconds, 1.0)
    return energy_db(sound, seconds) - 10 * np.log10(seconds), brightness(spectrum.log_mel(sound))[0]


def by_strength(notes: list[Recording], sounds: list[np.ndarray]) -> np.ndarray:
    """Loudness and brightness of each strength against the others, means over pitches, [strengths, 2]."""
    values = np.array([loudness_and_brightness(s, n.hold_seconds) for n, s in zip(notes, sounds, strict=True)])
    return steps_by_strength(values, *(np.array([getattr(n, name) for n in notes]) for name in ("pitch", "velocity")))


def follows(
    recorded: list[Recording], notes: list[Recording], sounds: list[np.ndarray], is_levelled: bool
) -> dict[str, float]:
    """Rank correlation of loudness and brightness over the strengths, between all recordings of an instrument and
    what a voice plays of some notes.

    All, as a strength has three held-out notes in some sets, whose order agrees with that of the others by no more than
    0.8. Recorded loudness is made never to fall: strokes of a voice do not.
    """
    theirs, ours = by_strength(recorded, [n.sound for n in recorded]), by_strength(notes, sounds)
    strengths, counts = np.unique([n.velocity for n in recorded], return_counts=True)
    at = np.isin(strengths, [n.velocity for n in notes])
    if at.sum() < 3:
        return {}
    loudness, brightness = rising(theirs[:, 0], counts)[at], theirs[at, 1]
    ranks = {"loudness": spearmanr(loudness, ours[:, 0]), "brightness": spearmanr(brightness, ours[:, 1])}
    return {name: float(rank.statistic) for name, rank in ranks.items() if not (is_levelled and name == "loudness")}


def drift_db(bank: Bank, voice: int, pitches: list[int]) -> float:
    """How far held notes go from the level that they have after a second, dB, up to 20 s."""
    furthest = 0.0
    for pitch in pitches:
        level = held_levels(play(bank, one_note_score(0, pitch, 90, 20.6), voice=voice))
        first = level[MOMENTS.index(1.0)]
        furthest = max(furthest, *(abs(level[MOMENTS.index(float(s))] - first) for s in HELD_SECONDS))
    return float(furthest)


def decay_db(notes: list[Recording], sounds: list[np.ndarray]) -> float:
    """How far what has become of held notes after 2 and 3 s, against their first, is from the recordings', mean."""
    off = []
    for note, sound in zip(notes, sounds, strict=True):
        theirs, ours = held_levels(note.sound), held_levels(sound[:, : note.sound.shape[1]])
        for moment in DECAY_SECONDS:
            if note.hold_seconds >= moment + 0.5 and note.sound.shape[1] >= (moment + 0.5) * SAMPLE_RATE:
                at, first = MOMENTS.index(float(moment)), MOMENTS.index(1.0)
                off.append(abs((ours[at] - ours[first]) - (theirs[at] - theirs[first])))
    return float(np.mean(off)) if off else 0.0


def refusals(row: dict) -> list[str]:
    """Why a voice may not take the place of its program."""
    why = []
    if row["miao"] > row["teacher"] - NEARER_DB:
        why.append(f"only {row['teacher'] - row['miao']:.1f} dB nearer than the program")
    for name, error in row["fonts"].items():
        if row["miao"] > error - NEARER_DB:
            why.append(f"only {error - row['miao']:.1f} dB nearer than {name}")
    if row["uneven_db"] > EVEN_DB:
        why.append(f"neighbouring keys differ by {row['uneven_db']:.1f} dB")
    if row["drift_db"] > HELD_DB:
        why.append(f"held notes go {row['drift_db']:.1f} dB away from their level")
    if row["decay_db"] > max(DECAY_DB, row["decay_taught_db"]):
        why.append(f"decays are {row['decay_db']:.1f} dB from the recordings'")
    if row["falls_db"] > FALL_DB:
        why.append(f"{row['falls_db']:.1f} dB softer where it is struck harder")
    return why


def measure(source: Source, folder: Path, output: Path, bank: Bank, fonts: list[SoundFont]) -> dict:
    """Learn one voice if it is not there, and give its row of the table."""
    began = time.process_time()
    recordings = read(source, folder)
    voice = learnt(source, recordings, bank, output / f"{source.name}.safetensors")
    player, number = bank.with_defaults([voice]), len(bank.table.kind)
    held_out = held_out_pitches([r.pitch for r in recordings])
    every = cut_below(recordings, lasts=source.lasts)
    notes = [r for r in every if r.pitch in held_out]
    is_levelled = recorded_dynamics([r for r in recordings if r.pitch not in held_out]) is None
    groups = [n.velocity if is_levelled else 0 for n in notes]
    ours, theirs = ([played(*by, n) for n in notes] for by in ((player, number), (bank, source.program)))
    sampled_by = {f.path.stem: [sampled(f, source.program, n) for n in notes] for f in fonts}
    systems = {"miao": ours, "teacher": theirs, **sampled_by}
    kind = int(bank.table.kind[source.program])
    tunings = [tuning(note, note.sound, kind) for note in notes]
    found = {name: errors(notes, tunings, sounds, groups, kind) for name, sounds in systems.items()}
    levels, taught = (keyboard(voice, b, n) for b, n in ((player, number), (bank, source.program)))
    row = {
        "name": source.name, "program": source.program, "held_out": len(notes), "pitches": len(held_out),
        "layers": len({n.velocity for n in notes}), "is_levelled": is_levelled,
        "miao": found["miao"][0], "teacher": found["teacher"][0],
        "fonts": {name: found[name][0] for name in sampled_by},
        "as_recorded": {name: both[1] for name, both in found.items()},
        **standing(source, voice, player, levels, notes, ours),
        "uneven_taught_db": float(np.abs(np.diff(taught, axis=1)).max()),
        "decay_taught_db": 0.0 if source.lasts else decay_db(notes, theirs),
        "range_db": float(np.median(levels[-1] - levels[0])),
        "follows": follows(every, notes, ours, is_levelled), "cpu_seconds": time.process_time() - began,
        "bank": bank.checksum,
    }  # fmt: skip
    return row | {"refused": refusals(row)}


def learnt(
    source: Source, recordings: list[Recording], bank: Bank, path: Path, *, holds_out: bool = True
) -> LearntVoice:  # fmt: skip
    """The voice that lies there, learnt if none does."""
    if not path.exists():
        about = {"name": source.name, "licence": source.licence, "origin": source.origin, "miao": __version__}
        learn_default(bank, recordings, source.program, about, lasts=source.lasts, wavers=source.name in WAVERING,
                      release_seconds=source.release_seconds, holds_out=holds_out,
                      keeps_tuning=source.keeps_tuning, own_sides=source.own_sides).save(path)  # fmt: skip
    return LearntVoice.load(path)


def keyboard(voice: LearntVoice, bank: Bank, number: int) -> np.ndarray:
    """How loud a voice of a bank plays the keys around those that a voice was learnt from, dB [strokes, keys]."""
    lowest, highest = int(voice.about["lowest"]), int(voice.about["highest"])
    keys = np.arange(max(lowest - AROUND, PITCHES[0]), min(highest + AROUND, PITCHES[-1]) + 1)
    return np.array([first_second_db(bank, number, keys, v) for v in STROKES])


def standing(source: Source, voice: LearntVoice, player: Bank, levels: np.ndarray, notes: list[Recording],
             ours: list[np.ndarray]) -> dict[str, float]:  # fmt: skip
    """How even a voice is, the last of the player's, and how its notes last, beside some recorded ones."""
    lowest, highest = int(voice.about["lowest"]), int(voice.about["highest"])
    thirds = [lowest + (highest - lowest) * n // 4 for n in (1, 2, 3)]
    return {
        "uneven_db": float(np.abs(np.diff(levels, axis=1)).max()),
        "falls_db": float(max(0.0, -np.diff(levels, axis=0).min())),
        "drift_db": drift_db(player, len(player.table.kind) - 1, thirds) if source.lasts else 0.0,
        "decay_db": 0.0 if source.lasts else decay_db(notes, ours),
    }


def installed(source: Source, row: dict, folder: Path, output: Path, bank: Bank) -> LearntVoice:
    """What may play by default: the voice learnt from all notes, unless what its gate asks without left-out notes is
    against it."""
    recordings = read(source, folder)
    voice = learnt(source, recordings, bank, output / "whole" / f"{source.name}.safetensors", holds_out=False)
    player, number = bank.with_defaults([voice]), len(bank.table.kind)
    held_out = held_out_pitches([r.pitch for r in recordings])
    notes = [] if source.lasts else [r for r in cut_below(recordings, lasts=False) if r.pitch in held_out]
    ours = [played(player, number, note) for note in notes]
    why = refusals(row | standing(source, voice, player, keyboard(voice, player, number), notes, ours))
    if not why:
        return voice
    print(f"{source.name} is installed without the notes that were left out: {'; '.join(why)}", flush=True)
    return LearntVoice.load(output / f"{source.name}.safetensors")


def waver(source: Source, folder: Path, bank: Bank, into: Path) -> None:
    """Measure how an installed voice wavers, on the notes that are not held out."""
    path, recordings = default_path(into, source.program), read(source, folder)
    held_out = held_out_pitches([r.pitch for r in recordings])
    some = cut_below([r for r in recordings if r.pitch not in held_out], lasts=source.lasts)
    some.sort(key=lambda r: (r.pitch, r.velocity))
    voice = wavering(bank, LearntVoice.load(path), some)
    with changed(into, path.name) as place:
        voice.save(place)
    print(source.name, "still" if voice.waver is None else voice.waver.moves.shape, flush=True)


def table(rows: list[dict]) -> list[str]:
    """The rows as Markdown, and what those that passed are in the mean."""
    fonts = sorted({name for row in rows for name in row["fonts"]})
    titles = ["voice", "program", "held out", "layers", "miao", "as taught", *fonts]
    measures = ("uneven_db", "uneven_taught_db", "drift_db", "decay_db")
    titles += ["keys dB", "as taught dB", "held dB", "decay dB", "loudness", "brightness", "default"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for r in rows:
        ranks = [f"{r['follows'][name]:.2f}" if name in r["follows"] else "-" for name in ("loudness", "brightness")]
        both = {name: (r["fonts"].get(name, r.get(name)), r["as_recorded"][name]) for name in r["as_recorded"]}
        own, *others = [f"{both[name][0]:.2f} ({both[name][1]:.2f})" for name in ("miao", "teacher", *fonts)]
        cells = [r["name"], f"{r['program'] + 1} {program_name(r['program'], False)}", str(r["held_out"]),
                 str(r["layers"]), f"**{own}**", *others, *(f"{r.get(name, 0.0):.2f}" for name in measures), *ranks,
                 "; ".join(r["refused"]) or "yes"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    passed = [r for r in rows if not r["refused"]]
    if not passed:
        return lines
    lines += ["", f"Means of the {len(passed)} that passed, dB, at the tuning of what plays (and as recorded):",
              "", "| system | over voices | over notes |", "|---|---|---|"]  # fmt: skip
    weights = [r["held_out"] for r in passed]
    for name in ("miao", "teacher", *fonts):
        both = np.array([(r["fonts"].get(name, r.get(name)), r["as_recorded"][name]) for r in passed])
        means = [both.mean(axis=0), np.average(both, axis=0, weights=weights)]
        title = "as taught" if name == "teacher" else name
        lines.append(f"| {title} | " + " | ".join(f"{a:.2f} ({b:.2f})" for a, b in means) + " |")
    return lines


def main() -> None:
    """Learn and measure what is there and not measured yet; write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--soundfont", action="append", default=[], help="sound banks beside it")
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--voice", action="append", choices=[s.name for s in SOURCES], help="only these")
    parser.add_argument("--install", help="a bank's folder that gets the voices that passed")
    parser.add_argument("--waver", help="a bank's folder whose voices get their waver anew; nothing else is done")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    record, bank = arguments.output / "real.json", Bank.load(arguments.bank, 1, has_more=False)
    if arguments.waver:
        into = bank_folder(arguments.waver)
        for source in SOURCES:
            is_wanted = source.name in WAVERING and source.name in (arguments.voice or [source.name])
            if is_wanted and default_path(into, source.program).exists() and (arguments.folder / source.place).exists():
                waver(source, arguments.folder, bank, into)
        return
    fonts = [SoundFont(path) for path in arguments.soundfont]
    rows = json.loads(record.read_text()) if record.exists() else []
    for source in SOURCES:
        is_wanted = (arguments.folder / source.place).exists() and source.name in (arguments.voice or [source.name])
        if is_wanted and source.name not in [row["name"] for row in rows]:
            rows.append(measure(source, arguments.folder, arguments.output, bank, fonts))
            record.write_text(json.dumps(rows, indent=2) + "\n")
            print(table(rows[-1:])[2], flush=True)
    (arguments.output / "real.md").write_text("\n".join(table(rows)) + "\n")
    print("\n".join(table(rows)))
    if arguments.install:
        folder = bank_folder(arguments.install)
        by_name = {source.name: source for source in SOURCES}
        (arguments.output / "whole").mkdir(exist_ok=True)
        for row in rows:
            if not row["refused"]:
                voice = installed(by_name[row["name"]], row, arguments.folder, arguments.output, bank)
                with changed(folder, default_path(folder, row["program"]).name) as place:
                    voice.save(place)
                print(f"{row['name']} is installed", flush=True)


if __name__ == "__main__":
    main()
