"""The paper's Table 3 on real sound: the scheme with and without audio encoder, with and without context.

    python bench/table3_recordings.py FOLDER -o results/table3

FOLDER holds recordings/violin and recordings/quartet, as `miao evaluate` reads them. Their notes are measured as those
of the paper's data sets are (`miao data prepare`): solo violin, and violin, clarinet, saxophone and bassoon each by
itself. One violin movement and the last two chorales are held out. Each row is trained with --seeds seeds on the same
windows in the same order (`miao.reproduction.runs`), then made into a bank that plays the held-out pieces: log-mel
error against the recording by stretches of one window, each piece at the gain that suits it best; differences from the
full scheme are paired over these stretches. What is there is not done again. Writes table3.json.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.frames import WINDOW_SECONDS
from miao.datasets.prepare import finish, prepare
from miao.datasets.recordings import Part, Recording
from miao.evaluation.pieces import Material
from miao.evaluation.recordings import plan_recordings
from miao.evaluation.report import mean_of
from miao.measuring.power import bands_below
from miao.midi.score import Score
from miao.reproduction.paper import Row
from miao.reproduction.runs import Recipe, train_rows
from miao.sound.audio import Audio
from miao.sound.spectrum import HOP_SAMPLES, SAMPLE_RATE, log_mel, log_mel_error
from miao.synth.synthesizer import Synthesizer
from miao.training.listening import best_gain

HELD_OUT = ("violin-oliver-colbentson_bwv1006_mov7", "quartet-P4_Mix05", "quartet-P4_Mix06")
ROWS = (
    Row("full scheme"),
    Row("without audio encoder", ("objective.audio_encoder=false",)),
    Row("without context", ("batch.context=false",)),
    Row("without either", ("objective.audio_encoder=false", "batch.context=false")),
)
SMALL = (
    "model.hidden=256",
    "model.decoder_channels=12",
    "model.width=48",
    "model.encoder_channels=5",
    "model.audio_channels=8",
    "batch.pair_chunks=64",
)  # of the preset "pairs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8, help="windows a step")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    pairs = options.output / "pairs"
    solos = list(materials(options.folder))
    report = prepared(solos, options.output)
    rows = [replace(row, changes=(*row.changes, *SMALL)) for row in ROWS]
    recipe = Recipe(pairs, options.output, options.steps, options.batch, options.seeds)
    for done, of, told in train_rows(recipe, rows, options.jobs):
        print(f"{done} of {of} {told}", flush=True)
    heard = [(name, material) for name, split, material in solos if split != "train"]
    found = {row.name: [errors(recipe.bank(row, seed), heard) for seed in range(recipe.seeds)] for row in rows}
    full = np.mean(found[rows[0].name], axis=0)
    table = {}
    for row in rows:
        by_seed = np.array(found[row.name])  # [seeds, stretches]
        held = [recipe.held_out(row, seed)["values"] for seed in range(recipe.seeds)]
        level = "error_db/all" if "batch.context=false" not in row.changes else "error_db/no_context"
        worse = mean_of((by_seed.mean(axis=0) - full).tolist())
        table[row.name] = {
            "log_mel_db": by_seed.mean(axis=1).tolist(), "n": by_seed.shape[1],
            "mean": interval(mean_of(by_seed.mean(axis=0).tolist())), "worse_than_full": interval(worse),
            "worse_by_seed": (by_seed.mean(axis=1) - np.array(found[rows[0].name]).mean(axis=1)).tolist(),
            "level_error_db": [h[level] for h in held], "recall": [h.get("recall@1") for h in held],
        }  # fmt: skip
        print(f"{row.name:24} {table[row.name]['mean'][0]:.2f} dB, worse than the full scheme by "
              f"{worse.mean:.2f} [{worse.low:.2f}, {worse.high:.2f}]; tokens "
              f"{np.mean([h[level][0] for h in held]):.2f} dB")  # fmt: skip
    means = {row.name: np.mean(found[row.name], axis=0) for row in rows}
    worth = {
        "context": (means["without context"] + means["without either"] - full - means["without audio encoder"]) / 2,
        "the audio encoder": (means["without audio encoder"] + means["without either"] - full
                              - means["without context"]) / 2,
    }  # fmt: skip
    worth = {name: interval(mean_of(values.tolist())) for name, values in worth.items()}
    for name, values in worth.items():
        print("{} is worth {:.2f} dB [{:.2f}, {:.2f}]".format(name, *values))
    plain = mean_of(errors(Path("gm"), heard))
    print(f"gm as it is              {plain.mean:.2f} dB")
    size = {key: report[key] for key in ("minutes", "windows", "notes", "measured")}
    whole = {"recipe": recipe.as_data(), "small": SMALL, "material": size, "held_out": [name for name, _ in heard],
             "rows": table, "worth": worth, "gm": interval(plain)}  # fmt: skip
    (options.output / "table3.json").write_text(json.dumps(whole, indent=1) + "\n")


def markdown(report: dict) -> str:
    """The report as a table."""
    recipe, size = report["recipe"], report["material"]
    found = [
        f"{size['minutes']:.1f} minutes of solo violin and of the instruments of quartets, {size['windows']} windows, "
        f"{size['measured']:,} measured notes; held out: {report['rows']['full scheme']['n']} stretches of "
        f"{len(report['held_out'])} pieces. Each row: preset `{recipe['preset']}` with {', '.join(report['small'])}, "
        f"{recipe['steps']} steps of {recipe['batch']} windows, {recipe['seeds']} seeds. Log-mel error of the held-out "
        "pieces as rendered, 95 % intervals over stretches; level error of their tokens from true ones before.",
        "", "| | log-mel error dB | worse than the full scheme by | by seed | level error dB | recall@1 |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in report["rows"].items():
        seeds = ", ".join(f"{x:+.2f}" for x in row["worse_by_seed"])
        level = ", ".join(f"{value:.2f}" for value, *_ in row["level_error_db"])
        recall = ", ".join("-" if x is None else f"{x[0]:.2f}" for x in row["recall"])
        found.append("| {} | {:.2f} [{:.2f}, {:.2f}] | {:+.2f} [{:+.2f}, {:+.2f}] | {} | {} | {} |".format(
            name, *row["mean"], *row["worse_than_full"], seeds, level, recall))  # fmt: skip
    words = ["{}: {:.2f} dB [{:.2f}, {:.2f}]".format(name, *values) for name, values in report["worth"].items()]
    after = ["", f"What each is worth, with and without the other: {'; '.join(words)}. Intervals are over stretches, "
             "most of which are one movement's: for other players they would be wider."]  # fmt: skip
    return "\n".join([*found, "| `gm`, which has not learnt from them | {:.2f} [{:.2f}, {:.2f}] | | | | |".format(
        *report["gm"]), *after])  # fmt: skip


def materials(folder: Path) -> list[tuple[str, str, Material]]:
    """Instruments playing alone: name, split, what is played."""
    found = []
    for plan in plan_recordings([folder], 0)[0]:
        split = "validation" if plan.name in HELD_OUT else "train"
        if plan.group == "violin":
            found.append((plan.name, split, plan.read()))
        elif plan.group == "quartet":
            whole = plan.read()
            for track, stem in zip(whole.score.tracks, whole.stems, strict=True):
                alone = replace(whole.score, tracks=(track,))
                found.append((f"{plan.name}-{track.name}", split, replace(whole, score=alone, audio=stem, stems=())))
    return found


def prepared(solos: Sequence[tuple[str, str, Material]], folder: Path) -> dict:
    """Pairs of them, in folder/pairs; what they hold."""
    recordings, sounds = [], folder / "sounds"
    sounds.mkdir(parents=True, exist_ok=True)
    for name, split, material in solos:
        assert material.audio is not None
        path = sounds / f"{name}.wav"
        if not path.is_file():
            Audio(material.audio.samples[:1], SAMPLE_RATE).save(path)
        part = Part(name, path, (0,))
        recordings.append(Recording("recordings", name, split, Read(material.score), part))
    for told in prepare(recordings, folder / "pairs"):
        for line in told.lines():
            print(line, flush=True)
    return finish(folder / "pairs")


class Read:
    """A score as a recording gives it."""

    def __init__(self, score: Score) -> None:
        self.score = score

    def __call__(self) -> Score:
        """It."""
        return self.score


def errors(bank: Path, solos: Sequence[tuple[str, Material]]) -> list[float]:
    """Log-mel error of each stretch of all pieces, played by a bank without a room, dB."""
    player, found, step = Synthesizer(Bank.load(bank, 1)), [], round(WINDOW_SECONDS * SAMPLE_RATE / HOP_SAMPLES)
    for _, material in solos:
        assert material.audio is not None
        sound = player.render(material.score, room="none", gain_db=-12.0, end=material.seconds).samples
        n_bands = bands_below(material.bandwidth_hz)
        heard, played = (log_mel(x)[:, :n_bands] for x in (material.audio.samples[:1], sound))
        played = played + best_gain(heard, played)[1]
        for first in range(0, max(len(heard) - step // 2, 1), step):
            found.append(log_mel_error(heard[first : first + step], played[first : first + step]))
    return found


def interval(found) -> list[float]:
    return [found.mean, found.low, found.high]


if __name__ == "__main__":
    main()
