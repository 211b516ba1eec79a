"""What each loss, the audio encoder and each choice is worth, on held-out pairs: one short training a row.

    python benchmarks/ablations.py --data pairs -o results/ablations --steps 240 --seeds 0 1

Resumable: a run that is there is gone on with, a row that has been measured is kept. All rows see the same pairs in the
same order and take the same number of steps.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

ROWS = {
    "AM + MAC + MAM": (),
    "without MAC": ("objective.mac=0.0",),
    "without MAM": ("objective.mam=0.0",),
    "without audio encoder (Table 3)": ("objective.audio_encoder=false",),
    "without AM": ("objective.am=0.0",),
    "feed-forward decoder (Table 2)": ("model.decoder=ffn",),
    "temperature 99": ("objective.temperature=99.0",),
    "contrast on CLS": ("objective.contrast_on=cls",),
    "audio encoder shares with MIDI encoder": ("model.share=midi",),
    "audio encoder shares with decoder (BLIP)": ("model.share=decoder",),
    "uniform label smoothing": ("objective.smoothing_form=uniform",),
    "hard targets (no momentum share)": ("objective.soft_share=0.0",),
}
COLUMNS = ("error_db/all", "error_db/no_context", "accuracy/token", "recall@1", "recall@10", "accuracy/match",
           "accuracy/mined")  # fmt: skip


def measured(name: str, changes: tuple[str, ...], seed: int, data: Path, folder: Path, steps: int, pairs: int) -> dict:
    """Train one row and measure it on 256 held-out pairs."""
    import torch

    from miao.config import load_preset
    from miao.training.held_out import held_out_pairs, measure
    from miao.training.trainer import RunConfig, Trainer, load_model, load_understanding

    torch.set_num_threads(1)
    place = folder / f"{name.replace(' ', '_').replace('/', '-')}-{seed}"
    result = place / "held_out.json"
    if result.exists():
        return json.loads(result.read_text())
    shared = (f"train.steps={steps}", f"batch.pairs={pairs}", f"train.seed={seed}", f"batch.seed={seed}",
              f"train.checkpoint_every={steps}", "train.average_decay=0.98")  # fmt: skip
    config = load_preset(RunConfig, "pairs", shared + changes)
    trainer = Trainer(config, place, pairs=data / "train")
    trainer.resume()
    trainer.fit(lambda *_: None, lambda _: None)
    understanding = load_understanding(place) if config.objective.audio_encoder else None
    found = measure(load_model(place), understanding, held_out_pairs(data / "validation", 256))
    found |= {"row": name, "seed": seed, "steps": steps, "pairs": pairs}
    result.write_text(json.dumps(found, indent=1))
    print(f"{name}, seed {seed}: " + ", ".join(f"{c} {found[c]:.3f}" for c in COLUMNS if c in found), flush=True)
    return found


def main() -> None:
    """Train what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", nargs="*", help="only rows whose name contains one of these")
    parser.add_argument("-o", "--output", type=Path, required=True)
    a = parser.parse_args()
    rows = {n: c for n, c in ROWS.items() if not a.rows or any(part in n for part in a.rows)}
    jobs = [(n, c, seed) for seed in a.seeds for n, c in rows.items()]
    results = Parallel(a.jobs)(delayed(measured)(*job, a.data, a.output, a.steps, a.pairs) for job in jobs)
    lines = ["| setting | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in rows:
        some = [r for r in results if r["row"] == name]
        cells = []
        for column in COLUMNS:
            values = [r[column] for r in some if column in r]
            digits = 2 if column.startswith("error") else 3
            spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}" if values else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    print("\n".join(lines))
    (a.output / "ablations.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
