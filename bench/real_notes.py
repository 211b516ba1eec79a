"""Default voices learnt from recorded notes: how near held-out notes they come, beside the teacher and sound banks.

    python bench/real_notes.py FOLDER --soundfont MuseScore_General_Full.sf2 --soundfont FluidR3_GM.sf2 -o results/real
    python bench/real_notes.py FOLDER --soundfont ... -o results/real --install my-bank

FOLDER holds the recordings (`SOURCES` says where); what is missing is left out. Every fifth pitch of a set is held out,
with all its strengths; each system plays these notes at the constant gain that suits it best, or, where all strengths
were recorded at one level, at the gain that suits it best for each strength; a voice is to be in tune and recorded
notes seldom are, so "in tune" is its error at the tuning of each note, too. What lies below notes that last is cut off
the recordings: rooms and microphones rumble there. Loudness and brightness: rank correlation with all recordings over
the strengths, means of all pitches (`follows`). A voice may take the place of its program if it passes the gate
(`refusals`): nearer than the program and every sound bank by 0.5 dB, neighbouring keys within 1 dB, never softer where
it is struck harder, held notes that last within 3 dB of their level up to 20 s, decays within 4 dB of the recordings'
or as near as the program's. Resumable: voices and rows that are there are kept. ``--install`` learns those that passed
once more, from all notes, and puts them into a bank's folder if they pass again in all that needs no notes left out;
``--waver`` gives those of `WAVERING`, as they are, the waver of their notes anew.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
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
from miao.datasets.voice_sources import recordings_from
from miao.evaluation.held_notes import MOMENTS
from miao.evaluation.held_notes import levels as held_levels
from miao.measuring.roundtrip import one_note_score, play
from miao.measuring.voice_fit import fit_voice
from miao.midi.general_midi import program_name
from miao.sound import spectrum
from miao.sound.loudness import energy_db
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
# voices that the ears of two nets (musicnn, YAMNet) hear nearer to other recorded notes once they waver, both of them
WAVERING = ("flute", "cello", "oboe", "french-horn", "alto-sax")
FREE = "Apache-2.0; the recordings are CC0-1.0"
PIANO = "Apache-2.0; learnt from recordings under CC-BY-3.0"
PHILHARMONIA = "Apache-2.0; the recordings are free to use, not to be passed on as samples"


@dataclass(frozen=True)
class Source:
    """Recordings of one instrument."""

    name: str
    place: str
    program: int  # 0..127, in whose place the voice plays
    origin: str
    licence: str
    only: str | None = None
    lasts: bool = True  # while a key is held
    layers: dict[int, int] | None = None  # those of its numbered layers that it is learnt from, and their velocities
    release_seconds: float | None = None  # in which a note that is let go falls by 60 dB, where that is known


def _philharmonia(name: str, program: int, only: str = "*_1*_normal*", lasts: bool = True) -> Source:
    origin = "sound samples of the Philharmonia Orchestra, London"
    return Source(name, f"philharmonia/{name}", program, origin, PHILHARMONIA, only, lasts)


def _sfz(name: str, file: str, program: int, lasts: bool = True) -> Source:
    return Source(name, f"gm-sfz/Melodic/{file}.sfz", program, SFZ_BANK, FREE, lasts=lasts)


# nine of its sixteen layers, each at the middle of the velocities that its own .sfz plays it at: v1 up to 26, v2 up to
# 34, v4 from 37, v6 from 47, v8 from 57; damped notes have ampeg_release=1 there, which players take for e^-9 a second
SALAMANDER = {1: 14, 2: 30, 4: 40, 6: 48, 8: 60, 10: 76, 12: 92, 14: 108, 16: 124}
SALAMANDER_SECONDS = 0.77
SFZ_BANK, FREEPATS = "recordings of the SFZ General MIDI bank", "recordings of the FreePats project"
KARORYFER = "recordings by Karoryfer Samples"
SOURCES = [
    _philharmonia("clarinet", 71),
    _philharmonia("flute", 73),
    _philharmonia("cello", 42, "*_1*_arco-normal*"),
    _philharmonia("oboe", 68),
    _philharmonia("bassoon", 70),
    _philharmonia("french-horn", 60),
    _philharmonia("trombone", 57),
    _philharmonia("banjo", 105, "*_normal*", lasts=False),
    Source("alto-sax", "alto-sax", 65, KARORYFER, FREE),
    Source("tuba", "war-tuba", 58, KARORYFER + ", J. Lewicki", FREE, "*_s_vl*"),
    Source("double-bass", "double-bass", 43, KARORYFER, FREE, "arco*"),
    Source("clean-guitar", "emily-guitar", 27, KARORYFER + ", D. Smolken", FREE, "[a-g]*[0-9]_[pmf]*_rr1*", False),
    Source("nylon-guitar", "spanish-guitar", 24, FREEPATS, FREE, lasts=False),
    _sfz("steel-guitar", "026-Acoustic-Guitar--steel-", 25, lasts=False),
    _sfz("electric-grand", "003-Electric-Grand-Piano", 2, lasts=False),
    _sfz("electric-piano", "005-Electric-Piano-1", 4, lasts=False),
    _sfz("finger-bass", "034-Electric-Bass--finger-", 33, lasts=False),
    Source(
        "grand-piano",
        "salamander",
        0,
        "Salamander Grand Piano V3 by Alexander Holm",
        PIANO,
        lasts=False,
        layers=SALAMANDER,
        release_seconds=SALAMANDER_SECONDS,
    ),
    _sfz("sitar", "105-Sitar", 104, lasts=False),
    _sfz("shanai", "112-Shanai", 111),
    _sfz("tremolo-strings", "045-Tremolo-Strings", 44),
    _sfz("pizzicato", "046-Pizzicato-Strings", 45, lasts=False),
    Source("bagpipe", "gm-sfz/Melodic/110-Bagpipe", 109, SFZ_BANK, FREE, "*_ord_*"),
    Source("acoustic-bass", "double-bass", 32, KARORYFER, FREE, "pizz*", False),
    Source("picked-bass", "electric-bass/PickedBassYR 20190930.sfz", 34, FREEPATS, FREE, lasts=False),
]


def read(source: Source, folder: Path) -> list[Recording]:
    """The recordings of an instrument; an .sfz among them names noises, too, which are not those asked for."""
    if source.layers is not None:
        place = folder / source.place
        found = {v: recordings_from(place, only=f"*v{layer}.*")[0] for layer, v in source.layers.items()}
        return [replace(r, velocity=v) for v, layer in found.items() for r in layer]
    recordings, _ = recordings_from(folder / source.place, only=source.only)
    return [r for r in recordings if source.only is None or fnmatch(r.name.lower(), source.only.lower())]


def played(bank: Bank, voice: int, note: Recording) -> np.ndarray:
    """A recorded note as a voice of a bank plays it."""
    sound = play(bank, one_note_score(0, note.pitch, note.velocity, note.hold_seconds), voice=voice)
    return sound if note.is_released else sound[:, : note.sound.shape[1]]


def tuned(voice: LearntVoice, note: Recording) -> LearntVoice:
    """The voice, out of tune as a recorded note is."""
    kind = int(voice.table.kind[0])
    if kind == MODES:
        return voice
    cents = fit_voice(note.sound, spectrum.SAMPLE_RATE, note_hz(note), kind).tune_cents
    return replace(voice, table=replace(voice.table, tune_cents=np.full_like(voice.table.tune_cents, cents)))


def sampled(font: SoundFont, program: int, note: Recording) -> np.ndarray:
    """A recorded note as a sound bank plays it."""
    sound = font.note(program, note.pitch, note.velocity, note.hold_seconds)
    return sound if note.is_released else sound[:, : note.sound.shape[1]]


def best_error(targets: list[np.ndarray], sounds: list[np.ndarray], groups: list[int]) -> float:
    """Mean log-mel error (dB) at the constant gain that suits each group of notes best."""
    mels = [spectrum.log_mel(sound) for sound in sounds]
    by_gain = np.array(
        [[spectrum.log_mel_error(a, b + gain) for gain in GAINS_DB] for a, b in zip(targets, mels, strict=True)]
    )
    at = [np.array(groups) == group for group in set(groups)]
    return float(sum(by_gain[notes].sum(axis=0).min() for notes in at) / len(mels))


def loudness_and_brightness(sound: np.ndarray, hold_seconds: float) -> tuple[float, float]:
    """Power (dB) of the first second, or of what is held if that is shorter, and the centre of the log-mel bands of the
    first second weighted by amplitude."""
    mel = spectrum.log_mel(sound[:, : spectrum.SAMPLE_RATE])
    amplitude = 10 ** (mel / 20)
    centre = (amplitude * np.arange(mel.shape[1])).sum() / amplitude.sum()
    seconds = min(hold_seconds, 1.0)
    return energy_db(sound, seconds) - 10 * np.log10(seconds), float(centre)


def by_strength(notes: list[Recording], sounds: list[np.ndarray]) -> np.ndarray:
    """Loudness and brightness of each strength against the others, means over pitches, [strengths, 2]."""
    values = np.array([loudness_and_brightness(s, n.hold_seconds) for n, s in zip(notes, sounds, strict=True)])
    pitch, velocity = (np.array([getattr(n, name) for n in notes]) for name in ("pitch", "velocity"))
    strengths, own, rise = np.unique(velocity), np.zeros_like(values), np.zeros_like(values)
    for _ in range(10):  # each pitch has means of its own, and not all strengths
        for p in np.unique(pitch):
            own[pitch == p] = (values - rise)[pitch == p].mean(axis=0)
        for v in strengths:
            rise[velocity == v] = (values - own)[velocity == v].mean(axis=0)
    return np.array([rise[velocity == v][0] for v in strengths])


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
            if note.hold_seconds >= moment + 0.5 and note.sound.shape[1] >= (moment + 0.5) * spectrum.SAMPLE_RATE:
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
    every = [cut_below(r) if source.lasts else r for r in recordings]
    notes = [r for r in every if r.pitch in held_out]
    is_levelled = recorded_dynamics([r for r in recordings if r.pitch not in held_out]) is None
    groups = [n.velocity if is_levelled else 0 for n in notes]
    targets, ours = [spectrum.log_mel(n.sound) for n in notes], [played(player, number, n) for n in notes]
    in_tune = [played(bank.with_voices([tuned(voice, n)]), number, n) for n in notes]
    theirs = [played(bank, source.program, n) for n in notes]
    levels, taught = (keyboard(voice, b, n) for b, n in ((player, number), (bank, source.program)))
    row = {
        "name": source.name, "program": source.program, "held_out": len(notes), "pitches": len(held_out),
        "layers": len({n.velocity for n in notes}), "is_levelled": is_levelled,
        "miao": best_error(targets, ours, groups),
        "in_tune": best_error(targets, in_tune, groups),
        "teacher": best_error(targets, theirs, groups),
        "fonts": {f.path.stem: best_error(targets, [sampled(f, source.program, n) for n in notes], groups)
                  for f in fonts},
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
                      release_seconds=source.release_seconds, holds_out=holds_out).save(path)  # fmt: skip
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
    notes = [] if source.lasts else [r for r in recordings if r.pitch in held_out]
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
    some = sorted((cut_below(r) for r in recordings if r.pitch not in held_out), key=lambda r: (r.pitch, r.velocity))
    voice = wavering(bank, LearntVoice.load(path), some)
    with changed(into, path.name) as place:
        voice.save(place)
    print(source.name, "still" if voice.waver is None else voice.waver.moves.shape, flush=True)


def table(rows: list[dict]) -> list[str]:
    """The rows as Markdown."""
    fonts = sorted({name for row in rows for name in row["fonts"]})
    titles = ["voice", "program", "held out", "layers", "miao", "in tune", "as taught", *fonts]
    measures = ("uneven_db", "uneven_taught_db", "drift_db", "decay_db")
    titles += ["keys dB", "as taught dB", "held dB", "decay dB", "loudness", "brightness", "default"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for r in rows:
        ranks = [f"{r['follows'][name]:.2f}" if name in r["follows"] else "-" for name in ("loudness", "brightness")]
        cells = [r["name"], f"{r['program'] + 1} {program_name(r['program'], False)}", str(r["held_out"]),
                 str(r["layers"]), f"**{r['miao']:.2f}**",
                 f"{r['in_tune']:.2f}" if "in_tune" in r else "-", f"{r['teacher']:.2f}",
                 *(f"{r['fonts'][name]:.2f}" for name in fonts),
                 *(f"{r.get(name, 0.0):.2f}" for name in measures), *ranks,
                 "; ".join(r["refused"]) or "yes"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
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
            print(table(rows)[-1], flush=True)
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
