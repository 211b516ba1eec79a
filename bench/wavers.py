"""What the waver of held notes is worth, of programs and variations: log-mel error and two ears beside the teacher's.

    python bench/wavers.py --soundfont MuseScore_General_Full.sf2 --yamnet yamnet.tflite -o results/wavers

Notes of 2 s, at one loudness, one after another: the teacher's, the bank's, the bank's without waver. Half of the keys
were not measured, nor were the strengths. An ear's errors are the change over its standard error, as if windows were
independent. What either ear finds further off belongs into `training.wavers.STILL`, or `training.variations.STILL`.
Resumable.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from miao.arrays import Floats, Reals
from miao.bank.bank import Bank
from miao.bank.voices import N_PROGRAMS
from miao.datasets.notes import Source
from miao.datasets.soundfont import SoundFont
from miao.evaluation.embedders import Embedder, musicnn, yamnet
from miao.measuring.roundtrip import one_note_score, play
from miao.midi.general_midi import program_name
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error

KEYS = (30, 33, 36, 38, 42, 45, 48, 50, 54, 57, 60, 62, 66, 69, 72, 74, 78, 81, 84, 86, 90)
VELOCITIES = (60, 110, 75, 100, 90, 50, 120)  # in turn
SECONDS = 2.0
LOUD_DB = -26.0
SILENT = 1e-5


def played(font: SoundFont, source: Source, voice: int, banks: list[Bank]) -> tuple[list[Floats], list[list[Floats]]]:
    """Notes of a program or a variation that the sound bank has, and the same of each bank's voice."""
    notes = [(key, VELOCITIES[n % len(VELOCITIES)]) for n, key in enumerate(KEYS)]
    program, bank = source.program, source.bank
    theirs = [font.note(program, key, velocity, SECONDS, bank=bank, tail_seconds=0.0) for key, velocity in notes]
    has = [n for n, sound in enumerate(theirs) if np.abs(sound).max(initial=0.0) >= SILENT]
    ours = [[cut(play(b, one_note_score(0, *notes[n], SECONDS), voice=voice)) for n in has] for b in banks]
    return [cut(theirs[n]) for n in has], ours


def cut(sound: Floats) -> Floats:
    """`SECONDS` of a sound, silence behind what ends sooner."""
    length = round(SECONDS * SAMPLE_RATE)
    return np.pad(sound, ((0, 0), (0, max(length - sound.shape[1], 0))))[:, :length]


def line(sounds: list[Floats]) -> Floats:
    """Sounds one after another, at one loudness."""
    gains = [10 ** ((LOUD_DB - 10 * np.log10(np.square(sound).mean() + 1e-12)) / 20) for sound in sounds]
    return np.concatenate([gain * sound for gain, sound in zip(gains, sounds, strict=True)], axis=1).astype(np.float32)


def heard(ear: Embedder, theirs: list[Floats], ours: list[list[Floats]]) -> dict[str, float]:
    """How far the banks' notes are from the teacher's, with waver and still, and the standard errors between."""
    reference = ear(line(theirs), SAMPLE_RATE)
    far: list[Reals] = [np.linalg.norm(ear(line(some), SAMPLE_RATE) - reference, axis=1) for some in ours]
    change = far[0] - far[1]
    errors = change.mean() / max(change.std() / np.sqrt(len(change)), 1e-9)
    return {"still": float(far[1].mean()), "with": float(far[0].mean()), "errors": float(errors)}


def markdown(report: list[dict]) -> str:
    """What was measured, as Markdown."""
    names = ("log_mel", "musicnn", "YAMNet")
    lines = [
        f"Notes of 2 s, {len(KEYS)} keys, {len(VELOCITIES)} strengths, beside the teacher's: still and with waver, "
        "log-mel error in dB and RED by two nets (below: nearer); errors: the change over its standard error, by "
        "musicnn and by YAMNet. Rows: samples that were found.",
        "",
        "| program | rows | log-mel dB | musicnn | YAMNet | errors |",
        "|---|---|---|---|---|---|",
    ]
    for row in report:
        cells = [f"{row[name]['still']:.2f} to {row[name]['with']:.2f}" for name in names]
        cells.append(", ".join(f"{row[name]['errors']:.1f}" for name in names[1:]))
        lines.append(f"| {row['name']} | {row['rows']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write wavers.jsonl and wavers.json, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", required=True)
    parser.add_argument("--yamnet", required=True, help="a .tflite file")
    parser.add_argument("--bank", default="gm")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    font, bank = SoundFont(options.soundfont), Bank.load(options.bank, 1)
    assert bank.additions.wavers is not None
    ears = {"musicnn": musicnn(), "YAMNet": yamnet(options.yamnet)}
    log = options.output / "wavers.jsonl"
    rows = [json.loads(row) for row in log.read_text().splitlines()] if log.exists() else []
    done = {row["voice"]: row for row in rows if row["bank"] == bank.checksum}
    voices = {program: (Source(program), program_name(program, False)) for program in range(N_PROGRAMS)}
    for (number, program), name in bank.kits.names.items():
        voices[bank.voice(program, 60, is_drum=False, bank=number << 7)] = Source(program, number), name
    for voice, (source, name) in voices.items():
        if voice in done or not bank.additions.wavers.has(voice):
            continue
        theirs, ours = played(font, source, voice, [bank, bank.with_wavers(None)])
        mels = [log_mel(sound) for sound in theirs]
        errors = [float(np.mean([log_mel_error(mel, log_mel(sound)) for mel, sound in zip(mels, some, strict=True)]))
                  for some in ours]  # fmt: skip
        row = {"bank": bank.checksum, "voice": voice, "name": name, "rows": int(bank.additions.wavers.n_keys[voice])}
        row |= {"log_mel": {"still": errors[1], "with": errors[0]}}
        row |= {name: heard(ear, theirs, ours) for name, ear in ears.items()}
        done[voice] = row
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
    report = [done[voice] for voice in sorted(done)]
    (options.output / "wavers.json").write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


if __name__ == "__main__":
    main()
