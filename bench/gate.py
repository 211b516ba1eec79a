"""Whether a bank may take another one's place: voice by voice, measured against their teacher, nothing much worse.

    python bench/gate.py --soundfont MuseScore_General_Full.sf2 --before old-bank --bank gm -o results/gate

Measures: short (log-mel error of held-out notes, dB), loudness (of these, mean absolute dB), attack (median, ms, of
these, each drawn several times), long and decay (levels of held notes, mean absolute dB, at most 20 counting), evenness
(neighbouring keys, dB), velocity (the largest fall from a soft stroke to a harder one, dB); of the whole bank load
(seconds), memory (MB) and speed (processor time of a song, both banks in turn in one run, median). What is worse by
more than a measure's limit is refused, unless the file of reasons (``--reasons``, lines of ``voice measure: why``) says
why. Exit status 1 if anything is. Resumable.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.voices import N_VOICES, is_drum_voice
from miao.datasets.notes import SAMPLE_RATE, render, source_of
from miao.datasets.soundfont import SoundFont
from miao.evaluation.held_notes import falls_by_velocity, held_errors, unevenness
from miao.evaluation.notes import HOLD_SECONDS, compare, drawn_attacks, held_out
from miao.measuring.roundtrip import one_note_score, play

LIMITS = {"short": 0.5, "loudness": 0.5, "attack": 5.0, "long": 0.5, "decay": 0.5, "evenness": 0.5, "velocity": 0.5}
WHOLE_LIMITS = {"load": 0.25, "memory": 30.0, "speed": 0.1}  # seconds, MB, share
_MOST_DB = 20.0
_SONG = Path(__file__).parent.parent / "examples" / "ode_to_joy.mid"
_TURNS = 5


def measured(font: SoundFont, bank: Bank, voice: int) -> dict[str, float]:
    """All measures of one voice that it has."""
    errors, late = [], []
    for pitch, velocity in held_out(voice):
        theirs = render(font, voice, pitch, velocity, HOLD_SECONDS)
        if np.abs(theirs).max(initial=0.0) < 1e-5:
            continue
        hold = theirs.shape[1] / SAMPLE_RATE if is_drum_voice(voice) else HOLD_SECONDS
        taught = None if is_drum_voice(voice) else voice  # a learnt voice that plays by default has another teacher
        errors.append(compare(theirs, play(bank, one_note_score(voice, pitch, velocity, hold), voice=taught)))
        late.append(drawn_attacks(font, source_of(voice), bank, voice, pitch, velocity, taught).off())
    found = {}
    if errors:
        found["short"] = float(np.mean([e.log_mel_db for e in errors]))
        found["loudness"] = float(np.mean([abs(e.loudness_db) for e in errors]))
        found["attack"] = float(1000 * np.median(late))
    held = held_errors(font, bank, voice)
    for name, lasts in (("long", True), ("decay", False)):
        off = [min(abs(d), _MOST_DB) for h in held if h.lasts == lasts for d in h.differences]
        if off:
            found[name] = float(np.mean(off))
    if not is_drum_voice(voice):
        found["evenness"] = unevenness(font, bank, voice)
        found["velocity"] = falls_by_velocity(bank, voice)
    return found


def worse(
    before: dict[str, float], after: dict[str, float], limits: dict[str, float]
) -> dict[str, tuple[float, float]]:
    """The measures that are worse by more than their limits; one that is missing on a side is not compared."""
    both = before.keys() & after.keys()
    return {name: (before[name], after[name]) for name in sorted(both) if after[name] > before[name] + limits[name]}


def read_reasons(path: Path | None) -> dict[tuple[str, str], str]:
    """What is known to be worse, and why: lines of ``voice measure: why``; # begins a comment."""
    reasons = {}
    for line in path.read_text().splitlines() if path else ():
        place, colon, why = line.partition(":")
        if colon and why.strip() and not line.startswith("#"):
            voice, measure = place.split()
            reasons[voice, measure] = why.strip()
    return reasons


def loading(bank: str) -> dict[str, float]:
    """Seconds and peak memory (MB) of loading a bank, in a process of its own."""
    code = (
        "import sys, time; from miao.bank.bank import Bank; t = time.process_time(); bank = Bank.load(sys.argv[1], 1);"
        "print(time.process_time() - t); print(open('/proc/self/status').read())"  # its own peak, not its parent's
    )
    run = subprocess.run([sys.executable, "-c", code, bank], capture_output=True, text=True, check=True)
    seconds, *status = run.stdout.splitlines()
    memory = next(float(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    return {"load": float(seconds), "memory": memory}


def speeds(banks: list[Bank]) -> list[float]:
    """Processor time of a song by each bank, medians of turns, over the first bank's."""
    from miao.midi.score import read_score
    from miao.synth.stems import stream_stems

    score, seconds = read_score(_SONG), np.zeros((_TURNS, len(banks)))
    for turn in range(_TURNS):
        for n, bank in enumerate(banks):
            started = time.process_time()
            for _ in stream_stems(bank, score):
                pass
            seconds[turn, n] = time.process_time() - started
    medians = np.median(seconds, axis=0)
    return (medians / medians[0]).tolist()


def main() -> int:
    """Measure both banks, print what is worse and what is better, say whether the new one may take the place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", required=True)
    parser.add_argument("--before", required=True, help="the bank that is there")
    parser.add_argument("--bank", default="gm", help="the one that is to take its place")
    parser.add_argument("--reasons", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only every n-th voice, for a quick look")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    font, reasons = SoundFont(arguments.soundfont), read_reasons(arguments.reasons)
    names = [arguments.before, arguments.bank]
    banks = [Bank.load(name, n_threads=1) for name in names]
    log, done = arguments.output / "gate.jsonl", {}
    if log.exists():
        done = {(r["bank"], r["voice"]): r["measured"] for r in map(json.loads, log.read_text().splitlines())}
    refused, lines = 0, ["| voice | measure | before | after | reason |", "|---|---|---|---|---|"]
    with log.open("a") as file:
        for voice in range(0, N_VOICES, arguments.every):
            for bank in banks:
                if (bank.checksum, voice) not in done:
                    done[bank.checksum, voice] = measured(font, bank, voice)
                    row = {"bank": bank.checksum, "voice": voice, "measured": done[bank.checksum, voice]}
                    file.write(json.dumps(row) + "\n")
                    file.flush()
            found = worse(*(done[bank.checksum, voice] for bank in banks), LIMITS)
            for measure, (old, new) in found.items():
                why = reasons.get((str(voice + 1), measure), "")
                refused += not why
                lines.append(f"| {voice + 1} | {measure} | {old:.2f} | {new:.2f} | {why or 'none: refused'} |")
            print(f"\r{voice + 1} of {N_VOICES} voices", end="", file=sys.stderr, flush=True)
    whole = [loading(name) for name in names]
    for values, speed in zip(whole, speeds(banks), strict=True):
        values["speed"] = speed
    for measure, (old, new) in worse(*whole, WHOLE_LIMITS).items():
        why = reasons.get(("bank", measure), "")
        refused += not why
        lines.append(f"| bank | {measure} | {old:.2f} | {new:.2f} | {why or 'none: refused'} |")
    means = {m: [float(np.mean([d[m] for (c, _), d in done.items() if c == b.checksum and m in d])) for b in banks]
             for m in LIMITS}  # fmt: skip
    report = {
        "before": banks[0].checksum,
        "after": banks[1].checksum,
        "means": means,
        "whole": whole,
        "refused": refused,
    }
    (arguments.output / "gate.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.output / "gate.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps(report, indent=2))
    print("refused" if refused else "may take the place")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
