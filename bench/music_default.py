"""A default voice learnt from music: learnt, tried as defaults are, and measured on players that it never heard.

    python bench/music_default.py data --source MuseScore.sf3 --sound-banks MuseScore.sf3 TimGM6mb.sf2 -o results/violin
    python bench/music_default.py data --source MuseScore.sf3 --sound-banks ... -o results/violin --install my-bank

`data` holds recordings/violin and recordings/quartet, as `miao evaluate` reads them. One movement, whose licence lets
what is learnt from it be passed on (`LEARNT_FROM`), is learnt as `miao learn` does; a voice with its tone, whose notes
waver as those of --source do, plays in place of its program (`training.default_voice`). Held out is all that others
play: the movements of the data set's other player, and the violins of the quartets. Each is rendered dry by the program
as taught, by the voice and by sound banks, brought to the recording's power, and compared by log-mel error, with 95 %
intervals over pieces, and how much nearer the voice is than each, paired; with --embedder also by RED and Fréchet
distance. The movement learnt from is told apart.

The voice may play by default if it is nearer to what is held out than the program and each sound bank, clear of chance,
its neighbouring keys are within 1 dB, it is never softer where it is struck harder, and held notes stay within 3 dB of
their level up to 20 s. ``--install`` puts it into a bank's folder if so. Writes violin.safetensors and
music-default.json.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from learn_recordings import Heard, compared, lines, opened, performance, summary
from real_notes import AROUND, EVEN_DB, FALL_DB, HELD_DB, STROKES, drift_db

from miao import __version__
from miao.arrays import Floats
from miao.bank.bank import Bank
from miao.bank.defaults import default_path
from miao.bank.folder import bank_folder, read_config, seal
from miao.bank.learnt_voice import LearntVoice
from miao.bank.waver import Waver
from miao.datasets.notes import PITCHES
from miao.datasets.soundfont import SoundFont
from miao.evaluation.embedders import Embedder
from miao.evaluation.measure import band_limited, level_gain
from miao.evaluation.pieces import Material
from miao.evaluation.recordings import LEARNT_FROM, VIOLIN, plan_recordings
from miao.evaluation.sampler import Sampler
from miao.evaluation.systems import played_stems
from miao.midi.score import Score
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error
from miao.training.default_voice import Range, default_from_music
from miao.training.evenness import first_second_db
from miao.training.key_gains import AS_LOUD
from miao.training.music_voice import learn_music
from miao.training.wavering import HOLD_SECONDS, SEMITONES, measured_waver

ORIGIN = (
    "MinJi Kim's recording of J. S. Bach, BWV 1003, fourth movement (Bach Violin Dataset, "
    "https://github.com/salu133445/bach-violin-dataset, CC BY 3.0)"
)
LICENCE = "Apache-2.0; learnt from a recording under CC BY 3.0"
VOICE, TAUGHT = "the learnt voice", "as taught"
OTHERS, QUARTETS, OWN = GROUPS = ("another player", "violins of quartets", "learnt from")
Play = Callable[[Score, float], Floats]


@dataclass(frozen=True)
class Held:
    """A recording of one violin by somebody else."""

    name: str
    score: Score
    sound: Floats  # [2, S] at 44.1 kHz
    seconds: float
    bandwidth_hz: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, required=True, help="the .sf2 that the bank was learnt from")
    parser.add_argument("--sound-banks", type=Path, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each piece that is held out; 0: whole")
    parser.add_argument("--embedder", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--install", help="a bank's folder that gets the voice if it may play")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    bank, path = Bank.load("gm", 1, has_more=False), options.output / "violin.safetensors"
    report: dict = {"seconds": options.seconds}
    if not path.exists():
        voice, report["learning"] = learnt(bank, options.folder, options.source)
        voice.save(path)
    voice = LearntVoice.load(path)
    systems: dict[str, Play] = {TAUGHT: bank_played(bank), VOICE: bank_played(bank.with_defaults([voice]))}
    systems |= {font.stem: partial(font_played, Sampler(font)) for font in options.sound_banks}
    embedders = dict(opened(text) for text in options.embedder)
    report["gate"] = tried(bank, voice)
    for group, pieces in held_out(options.folder, options.seconds).items():
        heard = [as_played(piece, systems, embedders) for piece in pieces]
        report[group] = {"n": len(heard), **summary(heard, VOICE)}
        print(f"{group}:", *lines(report[group]), sep="\n", flush=True)
    report["refused"] = refusals(report)
    print(json.dumps({key: report[key] for key in ("learning", "gate", "refused") if key in report}, indent=1))
    (options.output / "music-default.json").write_text(json.dumps(report, indent=1) + "\n")
    if options.install and not report["refused"]:
        folder = bank_folder(options.install)
        config = read_config(folder)
        default_path(folder, VIOLIN).write_bytes(path.read_bytes())
        seal(folder, config)


def learnt(bank: Bank, folder: Path, source: Path) -> tuple[LearntVoice, dict]:
    """The voice, from the whole of the movement, and how the learning went."""
    began = time.process_time()
    plan = next(plan for plan in plan_recordings([folder], 0.0)[0] if plan.name == LEARNT_FROM)
    material = plan.read()
    made = learn_music(bank, [performance(plan.name, material.audio, material.score)], "violin", {"source": plan.name})
    shift = made.voice.shift
    assert shift is not None
    notes = np.concatenate([track.notes for track in material.score.tracks])
    recorded = Range(int(notes["pitch"].min()), int(notes["pitch"].max()))
    about = {"name": "violin", "licence": LICENCE, "origin": ORIGIN, "miao": __version__}
    voice = default_from_music(bank, shift, VIOLIN, recorded, notes["end"] - notes["start"], about,
                               waver_of(bank, source, recorded))  # fmt: skip
    scores = made.scores
    return voice, {
        "held_out": [scores.one_gain, scores.room, scores.all], "seconds": material.seconds, "notes": len(notes),
        "remarks": made.remarks, "cpu_seconds": time.process_time() - began,
    }  # fmt: skip


def waver_of(bank: Bank, source: Path, recorded: Range) -> Waver:
    """How the program's notes waver as its teacher plays them; nets write them still."""
    font = SoundFont(source)
    try:
        return measured_waver(lambda pitch: font.note(VIOLIN, pitch, AS_LOUD, HOLD_SECONDS, tail_seconds=1.0),
                              range(recorded.low, PITCHES[-1] + 1, SEMITONES), int(bank.table.kind[VIOLIN]),
                              SAMPLE_RATE)  # fmt: skip
    finally:
        font.close()


def held_out(folder: Path, seconds: float) -> dict[str, list[Held]]:
    """What is compared, by group."""
    found: dict[str, list[Held]] = {group: [] for group in GROUPS}
    for plan in plan_recordings([folder], seconds)[0]:
        if plan.group == "violin":
            found[OWN if plan.name == LEARNT_FROM else OTHERS].append(held(plan.name, plan.read(), None))
        elif plan.group == "quartet":
            material = plan.read()
            found[QUARTETS].append(held(f"{plan.name} violin", material, VIOLIN))
    return {group: pieces for group, pieces in found.items() if pieces}


def held(name: str, material: Material, program: int | None) -> Held:
    """A recording, or the stem of the track that asks for a program."""
    if program is None:
        return Held(name, material.score, material.audio.samples, material.seconds, material.bandwidth_hz)
    tracks = material.score.tracks
    place = next(n for n, track in enumerate(tracks) if track.notes["program"][0] == program)
    score = replace(material.score, tracks=tracks[place : place + 1])
    return Held(name, score, material.stems[place].samples, material.seconds, material.bandwidth_hz)


def bank_played(bank: Bank) -> Play:
    """How a bank plays scores, dry."""

    def play(score: Score, seconds: float) -> Floats:
        mix: Floats = played_stems(bank, score, seconds).sum(axis=0)
        return mix

    return play


def font_played(sampler: Sampler, score: Score, seconds: float) -> Floats:
    """A score as a sound bank has it, dry."""
    mix: Floats = sampler.stems(score, seconds).sum(axis=0)
    return mix


def as_played(piece: Held, systems: dict[str, Play], embedders: dict[str, Embedder]) -> Heard:
    """A recording beside all systems, each at its power and within its bandwidth."""
    recorded = np.broadcast_to(piece.sound, (2, piece.sound.shape[1]))
    reference, errors = log_mel(recorded), {}
    embeddings = {name: {"recording": embed(recorded, SAMPLE_RATE)} for name, embed in embedders.items()}
    for name, play in systems.items():
        sound = np.broadcast_to(play(piece.score, piece.seconds), recorded.shape)
        if piece.bandwidth_hz < SAMPLE_RATE / 2:
            sound = band_limited(sound, piece.bandwidth_hz)
        sound = sound * np.float32(level_gain(recorded, sound))
        errors[name] = log_mel_error(reference, log_mel(sound))
        for embedder, embed in embedders.items():
            embeddings[embedder][name] = embed(sound, SAMPLE_RATE)
    return Heard(piece.name, errors, embeddings)


def tried(bank: Bank, voice: LearntVoice) -> dict[str, float]:
    """How even the voice is, how it rises with strength, and how it holds, as voices from single notes are tried."""
    player, number = bank.with_defaults([voice]), len(bank.table.kind)
    lowest, highest = int(voice.about["lowest"]), int(voice.about["highest"])
    keys = np.arange(max(lowest - AROUND, PITCHES[0]), min(highest + AROUND, PITCHES[-1]) + 1)
    levels = np.array([first_second_db(player, number, keys, v) for v in STROKES])
    loud = STROKES.index(96)
    taught = first_second_db(bank, VIOLIN, keys, STROKES[loud])
    thirds = [lowest + (highest - lowest) * n // 4 for n in (1, 2, 3)]
    return {
        "uneven_db": float(np.abs(np.diff(levels, axis=1)).max()),
        "falls_db": float(max(0.0, -np.diff(levels, axis=0).min())),
        "drift_db": drift_db(player, number, thirds),
        "louder_than_taught_db": float(np.median(levels[loud] - taught)),
    }


def refusals(report: dict) -> list[str]:
    """Why the voice may not take the place of its program."""
    gate, why = report["gate"], []
    for group in (OTHERS, QUARTETS):
        if group not in report:
            why.append(f"{group}: not there to be measured on")
            continue
        for name, (by, low, high) in report[group]["nearer"].items():
            if low <= 0:
                why.append(f"{group}: not clearly nearer than {name} ({by:.2f} [{low:.2f}, {high:.2f}] dB)")
    limits: Sequence[tuple[str, float, str]] = (
        ("uneven_db", EVEN_DB, "neighbouring keys differ by {:.1f} dB"),
        ("falls_db", FALL_DB, "{:.1f} dB softer where it is struck harder"),
        ("drift_db", HELD_DB, "held notes go {:.1f} dB away from their level"),
    )
    return why + [words.format(gate[name]) for name, most, words in limits if gate[name] > most]


def markdown(report: dict) -> str:
    """The report as tables."""
    gate, seconds = report["gate"], report["seconds"]
    first = f"the first {seconds:g} s" if seconds else "the whole"
    found = [
        f"Learnt from {ORIGIN}; held out is what others play, {first} of each movement. Dry, each at the recording's "
        "power; 95 % intervals over pieces. Beside each figure stands by how much the voice is nearer.", "",
        f"Neighbouring keys differ by {gate['uneven_db']:.2f} dB at most, strokes that are harder are softer by "
        f"{gate['falls_db']:.2f}, held notes stay within {gate['drift_db']:.2f} for 20 s, the voice is "
        f"{gate['louder_than_taught_db']:+.2f} dB louder than as taught. "
        f"Why it may not play by default: {'; '.join(report['refused']) or 'no reason'}.",
    ]  # fmt: skip
    for group in GROUPS:
        if group in report:
            title = f"## {group[0].upper()}{group[1:]}, {report[group]['n']} pieces"
            found += ["", title, "", *compared(report[group])]
    return "\n".join(found)


if __name__ == "__main__":
    main()
