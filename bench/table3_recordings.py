"""The paper's Table 3 on real sound: the scheme with and without audio encoder, with and without context.

    python bench/table3_recordings.py FOLDER -o results/table3

FOLDER holds recordings/piano, violin and quartet, as `miao evaluate` reads them. Their notes are measured as those of
the paper's data sets are (`miao data prepare`): the beginnings of every other piano piece, solo violin, and violin,
clarinet, saxophone and bassoon each by itself. Every fourth of these piano pieces, one violin movement and the last two
chorales are held out. Each row is trained with --seeds seeds on the same windows in the same order
(`miao.reproduction.runs`), then made into a bank that plays the held-out pieces: log-mel error against the recording by
stretches of one window, each piece at the gain that suits it best; differences from the full scheme are paired over
these stretches. What is there is not done again, so trainings may be done elsewhere (--train-only, --accelerator cuda)
and their folder be brought back. Writes table3.json.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from miao.arrays import Doubles
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
from miao.reproduction.runs import Recipe, train, train_rows
from miao.sound.audio import Audio
from miao.sound.spectrum import HOP_SAMPLES, SAMPLE_RATE, log_mel, log_mel_error
from miao.synth.synthesizer import Synthesizer
from miao.training.listening import best_gain

PIANO_SECONDS = 30.0
PIANO_EVERY, PIANO_HELD_OUT = 2, 4  # pieces that are taken, and which of those is held out
HELD_OUT = ("violin-oliver-colbentson_bwv1006_mov7", "quartet-P4_Mix05", "quartet-P4_Mix06")
ROWS = (
    Row("full scheme"),
    Row("without audio encoder", ("objective.audio_encoder=false",)),
    Row("without context", ("batch.context=false",)),
    Row("without either", ("objective.audio_encoder=false", "batch.context=false")),
)
_DECODER = ("model.hidden=256", "model.decoder_channels=12")
SIZES = {  # of the preset "pairs"
    "small": (
        *_DECODER,
        "model.width=48",
        "model.encoder_channels=5",
        "model.audio_channels=8",
        "batch.pair_chunks=64",
    ),
    "middle": _DECODER,
    "whole": (),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8, help="windows a step")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--size", choices=SIZES, default="small", help="of the nets")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--train-only", action="store_true", help="from pairs that are there")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    pairs = options.output / "pairs"
    small = SIZES[options.size]
    rows = [replace(row, changes=(*row.changes, *small)) for row in ROWS]
    recipe = Recipe(pairs, options.output, options.steps, options.batch, options.seeds, accelerator=options.accelerator)
    if options.train_only:
        trainings = (delayed(train)(recipe, row, seed) for row, seed in product(rows, range(recipe.seeds)))
        for run in Parallel(options.jobs, return_as="generator_unordered")(trainings):
            print(run, flush=True)
        return
    solos = list(materials(options.folder))
    report = prepared(solos, options.output)
    for done, of, told in train_rows(recipe, rows, options.jobs):
        print(f"{done} of {of} {told}", flush=True)
    heard = [(name, material) for name, split, material in solos if split != "train"]
    groups, plain = errors(Path("gm"), heard)
    found = {row.name: np.array([errors(recipe.bank(row, seed), heard)[1] for seed in range(recipe.seeds)])
             for row in rows}  # fmt: skip
    full = found[rows[0].name]
    table = {}
    for row in rows:
        by_seed = found[row.name]  # [seeds, stretches]
        held = [recipe.held_out(row, seed)["values"] for seed in range(recipe.seeds)]
        level = "error_db/all" if "batch.context=false" not in row.changes else "error_db/no_context"
        table[row.name] = {
            "log_mel_db": by_seed.mean(axis=1).tolist(), "n": by_seed.shape[1], "mean": interval(by_seed.mean(axis=0)),
            "worse_than_full": interval((by_seed - full).mean(axis=0)),
            "worse_by_seed": (by_seed - full).mean(axis=1).tolist(),
            "level_error_db": [h[level] for h in held], "recall": [h.get("recall@1") for h in held],
        }  # fmt: skip
    means = {row.name: found[row.name].mean(axis=0) for row in rows}
    neither, whole = means["without either"], means["full scheme"]
    worth = {
        "context": (means["without context"] + neither - whole - means["without audio encoder"]) / 2,
        "the audio encoder": (means["without audio encoder"] + neither - whole - means["without context"]) / 2,
    }
    parts = {"all": groups >= "", **{group: groups == group for group in np.unique(groups).tolist()}}
    by_group = {name: {group: interval(values[which]) for group, which in parts.items()}
                for name, values in worth.items()}  # fmt: skip
    errors_of = {name: {group: float(values[which].mean()) for group, which in parts.items()}
                 for name, values in {**means, "gm": plain}.items()}  # fmt: skip
    size = {key: report[key] for key in ("minutes", "windows", "notes", "measured")}
    result = {"recipe": recipe.as_data(), "small": small, "material": size, "held_out": [name for name, _ in heard],
              "rows": table, "worth": by_group, "groups": errors_of, "gm": interval(plain)}  # fmt: skip
    (options.output / "table3.json").write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


def markdown(report: dict) -> str:
    """The report as a table."""
    recipe, size = report["recipe"], report["material"]
    groups = [group for group in report["groups"]["gm"] if group != "all"]
    preset = " with ".join(filter(None, (f"preset `{recipe['preset']}`", ", ".join(report["small"]))))
    lines = [
        f"{size['minutes']:.1f} minutes of piano, solo violin and the instruments of quartets, {size['windows']} "
        f"windows, {size['measured']:,} measured notes; held out: {report['rows']['full scheme']['n']} stretches of "
        f"{len(report['held_out'])} pieces. Each row: {preset}, {recipe['steps']} steps of {recipe['batch']} windows, "
        f"{recipe['seeds']} seeds. Log-mel error of the held-out pieces as rendered, 95 % intervals over stretches; "
        "level error of their tokens from true ones before.",
        "", f"| | log-mel error dB | {' | '.join(groups)} | worse than the full scheme by | by seed | level error dB | "
        "recall@1 |", f"|---|---|{'---|' * len(groups)}---|---|---|---|",
    ]  # fmt: skip
    for name, row in report["rows"].items():
        seeds = ", ".join(f"{x:+.2f}" for x in row["worse_by_seed"])
        level = ", ".join(f"{value:.2f}" for value, *_ in row["level_error_db"])
        recall = ", ".join("-" if x is None else f"{x[0]:.2f}" for x in row["recall"])
        parts = " | ".join(f"{report['groups'][name][group]:.2f}" for group in groups)
        lines.append("| {} | {:.2f} [{:.2f}, {:.2f}] | {} | {:+.2f} [{:+.2f}, {:+.2f}] | {} | {} | {} |".format(
            name, *row["mean"], parts, *row["worse_than_full"], seeds, level, recall))  # fmt: skip
    parts = " | ".join(f"{report['groups']['gm'][group]:.2f}" for group in groups)
    lines.append("| `gm`, which has not learnt from them | {:.2f} [{:.2f}, {:.2f}] | {} | | | | |".format(
        *report["gm"], parts))  # fmt: skip
    lines += ["", "What each is worth, with and without the other, dB [95 %]; intervals are over stretches, several of "
              "which are one player's: for other players they would be wider.",
              "", f"| | all | {' | '.join(groups)} |", f"|---|---|{'---|' * len(groups)}"]  # fmt: skip
    for name, values in report["worth"].items():
        told = " | ".join("{:+.2f} [{:+.2f}, {:+.2f}]".format(*values[group]) for group in ("all", *groups))
        lines.append(f"| {name} | {told} |")
    return "\n".join(lines)


def materials(folder: Path) -> list[tuple[str, str, Material]]:
    """Instruments playing alone: name, split, what is played."""
    found = []
    plans = plan_recordings([folder], 0)[0]
    pianos = [plan for plan in plan_recordings([folder], PIANO_SECONDS)[0] if plan.group == "piano"][::PIANO_EVERY]
    for number, plan in enumerate(pianos):
        found.append((plan.name, "train" if (number + 1) % PIANO_HELD_OUT else "validation", plan.read()))
    for plan in plans:
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


def errors(bank: Path, solos: Sequence[tuple[str, Material]]) -> tuple[np.ndarray, Doubles]:
    """The group and the log-mel error of each stretch of all pieces, played by a bank without a room, dB."""
    player, step = Synthesizer(Bank.load(bank, 1)), round(WINDOW_SECONDS * SAMPLE_RATE / HOP_SAMPLES)
    groups, found = [], []
    for name, material in solos:
        assert material.audio is not None
        sound = player.render(material.score, room="none", gain_db=-12.0, end=material.seconds).samples
        n_bands = bands_below(material.bandwidth_hz)
        heard, played = (log_mel(x)[:, :n_bands] for x in (material.audio.samples[:1], sound))
        played = played + best_gain(heard, played)[1]
        for first in range(0, max(len(heard) - step // 2, 1), step):
            groups.append(name.split("-")[0])
            found.append(log_mel_error(heard[first : first + step], played[first : first + step]))
    return np.array(groups), np.array(found)


def interval(values: Doubles) -> list[float]:
    """Their mean and both ends of its 95 % interval."""
    found = mean_of(values.tolist())
    return [found.mean, found.low, found.high]


if __name__ == "__main__":
    main()
