"""The kits of a bank against the teacher's: how near each own key is, and how far it is from the standard kit's key.

    python bench/kits.py --soundfont MuseScore_General_Full.sf2 -o results/kits
    python bench/kits.py --soundfont MuseScore_General_Full.sf2 -o results/kits --kit 8 --by-key

Log-mel error (dB) of velocities that training never sees, mean of a kit's keys that differ from the standard kit's.
"standard" is the standard kit's key in their place, as it is and at the gain that suits it best: what is told apart.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.voices import drum_voice
from miao.datasets.notes import HELD_OUT_VELOCITIES, SAMPLE_RATE, Source, render
from miao.datasets.soundfont import SoundFont
from miao.measuring.roundtrip import one_note_score, play
from miao.sound.spectrum import FRAME_SAMPLES, log_mel, log_mel_error

_GAINS_DB = np.arange(-15, 15.5, 1.0)


def main() -> None:
    """Measure, write kits.json, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", required=True)
    parser.add_argument("--bank", default="gm")
    parser.add_argument("--kit", type=int, action="append", help="only these")
    parser.add_argument("--by-key", action="store_true", help="print the errors of each key, too")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    font, bank = SoundFont(arguments.soundfont), Bank.load(arguments.bank, n_threads=1)
    errors: dict[int, list[tuple[int, float, float, float]]] = defaultdict(list)
    assert bank.embeddings is not None and bank.embeddings.row is not None
    own = {place: voice for place, voice in bank.kits.keys.items() if bank.embeddings.row[voice] == voice}
    for kit, key in sorted(own):
        if kit not in (arguments.kit or [kit]):
            continue
        for velocity in HELD_OUT_VELOCITIES:
            theirs = render(font, Source(kit, key=key), key, velocity, 1.0)
            if np.abs(theirs).max(initial=0.0) < 1e-5:
                continue
            seconds = theirs.shape[1] / SAMPLE_RATE
            scores = [one_note_score(drum_voice(key), key, velocity, seconds, number) for number in (kit, 0)]
            ours, standard = (play(bank, score) for score in scores)
            n = max(x.shape[1] for x in (theirs, ours, standard)) + FRAME_SAMPLES
            mels = [log_mel(np.pad(x, ((0, 0), (0, n - x.shape[1])))) for x in (theirs, ours, standard)]
            gains = [log_mel_error(mels[0], mels[2] + gain) for gain in _GAINS_DB]
            errors[kit].append((key, log_mel_error(mels[0], mels[1]), log_mel_error(mels[0], mels[2]), min(gains)))
    report = {}
    print(
        "| kit | keys | miao dB | worst key | standard dB | standard at its best gain dB |\n|---|---|---|---|---|---|"
    )
    for kit, rows in errors.items():
        table = np.array(rows)
        by_key = {int(key): table[table[:, 0] == key, 1].mean() for key in np.unique(table[:, 0])}
        worst = max(by_key, key=lambda key: by_key[key])
        ours, standard, best = table[:, 1:].mean(axis=0)
        report[kit] = {"keys": len(by_key), "miao": ours, "standard": standard, "standard at its best gain": best}
        if arguments.by_key:
            print(", ".join(f"{key}: {error:.1f}" for key, error in by_key.items()))
        print(f"| {kit} | {len(by_key)} | {ours:.2f} | {worst} ({by_key[worst]:.1f}) | {standard:.2f} | {best:.2f} |")
    (arguments.output / "kits.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
