"""Variations of a bank against the teacher's: notes that were not learnt from, held notes, neighbouring keys.

    python bench/variations.py --soundfont MuseScore_General_Full.sf2 -o results/variations

Held-out notes (five pitches, three strengths): log-mel error (dB) of the variation, and of what plays its program, as
it is and at the gain that suits it best, in its place: what is told apart. Loudness and attack are the variation's.
Held notes: shares of levels within 3 dB at 5, 10, 20 and 30 s of those that last, within 4 dB at 3, 5, 8 and 12 s of
those that decay. Keys: how much further neighbours lie apart than the teacher's. Resumable: what is in
``variations.jsonl`` for this bank is not measured again.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.datasets.notes import HELD_OUT_PITCHES, HELD_OUT_VELOCITIES, Source, render
from miao.datasets.soundfont import SoundFont
from miao.evaluation.held_notes import DECAY_DB, LASTING_DB, held_errors, unevenness
from miao.evaluation.notes import HOLD_SECONDS, compare, drawn_attacks
from miao.measuring.roundtrip import one_note_score, play
from miao.sound.spectrum import FRAME_SAMPLES, log_mel, log_mel_error

_GAINS_DB = np.arange(-15, 15.5, 1.0)
_SILENT = 1e-5


def measured(font: SoundFont, bank: Bank, source: Source, name: str) -> dict:
    """All that is said of one variation."""
    own = bank.voice(source.program, 60, is_drum=False, bank=source.bank << 7)
    plain = bank.voice(source.program, 60, is_drum=False)
    errors, others, late = [], [], []
    for pitch in HELD_OUT_PITCHES:
        for velocity in HELD_OUT_VELOCITIES:
            theirs = render(font, source, pitch, velocity, HOLD_SECONDS)
            if np.abs(theirs).max(initial=0.0) < _SILENT:
                continue
            score = one_note_score(0, pitch, velocity, HOLD_SECONDS)
            errors.append(compare(theirs, play(bank, score, voice=own)))
            late.append(drawn_attacks(font, source, bank, 0, pitch, velocity, own).off())
            program = play(bank, score, voice=plain)
            n = max(theirs.shape[1], program.shape[1]) + FRAME_SAMPLES
            a, b = (log_mel(np.pad(sound, ((0, 0), (0, n - sound.shape[1])))) for sound in (theirs, program))
            others.append([log_mel_error(a, b + gain) for gain in _GAINS_DB])
    held = held_errors(font, bank, own, source)
    by_gain = np.mean(others, axis=0)
    return {
        "bank": source.bank, "program": source.program + 1, "name": name, "notes": len(errors),
        "miao_db": float(np.mean([e.log_mel_db for e in errors])),
        "program_db": float(by_gain[_GAINS_DB == 0][0]), "program_at_its_best_gain_db": float(by_gain.min()),
        "loudness_db": float(np.mean([e.loudness_db for e in errors])),
        "attack_ms": float(1000 * np.median(late)),
        "lasting": [d for h in held if h.lasts for d in h.differences],
        "decaying": [d for h in held if not h.lasts for d in h.differences],
        "uneven_db": unevenness(font, bank, own, source),
    }  # fmt: skip


def summary(rows: list[dict]) -> dict:
    """Means over all variations, and how many are near."""
    own, programs = (np.array([r[name] for r in rows]) for name in ("miao_db", "program_at_its_best_gain_db"))
    report = {
        "variations": len(rows), "miao_db": float(own.mean()), "furthest_db": float(own.max()),
        "programs_at_their_best_gain_db": float(programs.mean()), "programs_nearer": int((programs < own).sum()),
        "loudness_within_1_db": int(sum(abs(r["loudness_db"]) <= 1 for r in rows)),
        "attack_within_5_ms": int(sum(r["attack_ms"] <= 5 for r in rows)),
    }  # fmt: skip
    for name, limit in (("lasting", LASTING_DB), ("decaying", DECAY_DB)):
        every = [d for r in rows for d in r[name]]
        report |= {f"{name}_levels": len(every), f"{name}_near": float(np.mean(np.abs(every) <= limit))}
    return report


def main() -> None:
    """Measure, write variations.jsonl and variations.json, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", required=True)
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--every", type=int, default=1, help="only every n-th variation, for a quick look")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    font, bank = SoundFont(arguments.soundfont), Bank.load(arguments.bank, n_threads=1)
    log, done = arguments.output / "variations.jsonl", {}
    if log.exists():
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        done = {(r["bank"], r["program"] - 1): r for r in rows if r["checksum"] == bank.checksum}
    places = list(bank.kits.names.items())[:: arguments.every]
    with log.open("a") as file:
        for place, name in places:
            if place not in done:
                done[place] = measured(font, bank, Source(place[1], place[0]), name)
                file.write(json.dumps(done[place] | {"checksum": bank.checksum}) + "\n")
                file.flush()
                print(f"\r{len(done)} variations", end="", file=sys.stderr, flush=True)
    found = [done[place] for place, _ in places]
    report = {"bank": bank.checksum, "soundfont": Path(arguments.soundfont).name} | summary(found)
    (arguments.output / "variations.json").write_text(json.dumps(report | {"each": found}, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
