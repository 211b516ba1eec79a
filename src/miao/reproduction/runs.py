"""Trainings that are compared: all alike but for a row's changes, each measured on held-out pairs and made into a bank.

    runs/ROW-SEED/      the training: checkpoint, material.json (what it is made of), held_out.json (written last)
    banks/ROW-SEED/     the bank, with context if it was trained with it

All rows see the same pairs in the same order (but for the batch size, where that is what differs). What is there is not
done again; a training that was stopped goes on from its last checkpoint.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from miao.bank.voices import VoiceTable
from miao.config import load_preset
from miao.datasets.pairs import Pair, notes_of, read_shard, shards_of
from miao.errors import ConfigError, DataError
from miao.evaluation.report import mean_of
from miao.files import Json, write_json
from miao.reproduction.paper import Row
from miao.training.export import export_bank, power_trim
from miao.training.held_out import held_out_pairs, measure
from miao.training.scheme import RunConfig, load_model, load_understanding, miao_trainer
from miao.training.trainer import launched

HELD_OUT = 256  # pairs
_PARTS = 8  # of the held-out pairs, over which intervals of level errors are made
_TRIM_PAIRS = 512  # whose notes say how loud each voice is
_CHECKPOINT_EVERY = 40


@dataclass(frozen=True)
class Recipe:
    """How all rows are trained, and where they go."""

    pairs: Path  # a folder with train/, validation/ and voices.safetensors
    folder: Path
    steps: int
    batch: int = 16  # pairs a step
    seeds: int = 1
    preset: str = "pairs"
    accelerator: str = "cpu"  # that trains; comparisons need not tell

    def config(self, row: Row, seed: int) -> RunConfig:
        """The settings of a training. Raises: ConfigError."""
        shared = (f"train.steps={self.steps}", f"batch.pairs={self.batch}", f"train.seed={seed}", f"batch.seed={seed}",
                  f"train.checkpoint_every={_CHECKPOINT_EVERY}", "train.average_decay=0.98")  # fmt: skip
        return load_preset(RunConfig, self.preset, shared + row.changes)

    def default(self, key: str) -> int:
        """What a setting such as model.n_heads is where no row changes it."""
        group, _, name = key.partition(".")
        value: int = getattr(getattr(self.config(Row(""), 0), group), name)
        return value

    def as_data(self) -> Json:
        """For reports."""
        return {"preset": self.preset, "steps": self.steps, "batch": self.batch, "seeds": self.seeds}

    def run(self, row: Row, seed: int) -> Path:
        """The training's folder."""
        return self.folder / "runs" / f"{row.slug}-{seed}"

    def bank(self, row: Row, seed: int) -> Path:
        """The bank's folder."""
        return self.folder / "banks" / f"{row.slug}-{seed}"

    def held_out(self, row: Row, seed: int) -> Json:
        """What was measured on how many held-out pairs: by name, the value and both ends of its interval."""
        measured: Json = json.loads((self.run(row, seed) / "held_out.json").read_text())
        return measured


def train_rows(recipe: Recipe, rows: list[Row], jobs: int = 1) -> Iterator[tuple[int, int, str]]:
    """Train and export what is not there; yields how many are done, of how many, and what was just trained.

    Raises: ConfigError for settings that do not go together, or where a folder holds a training of something else;
    DataError where there are no pairs.
    """
    for part in ("train", "validation"):
        shards_of(recipe.pairs / part)
    VoiceTable.load(recipe.pairs / "voices.safetensors")
    every = {(row.slug, seed): (row, seed) for seed in range(recipe.seeds) for row in rows}
    to_do = [(row, seed) for row, seed in every.values() if not _is_done(recipe, row, seed)]
    yield len(every) - len(to_do), len(every), ""
    work = (delayed(_train)(recipe, row, seed) for row, seed in to_do)
    for number, told in enumerate(Parallel(jobs, return_as="generator_unordered")(work), start=1):
        yield len(every) - len(to_do) + number, len(every), told


def _is_done(recipe: Recipe, row: Row, seed: int) -> bool:
    """Whether a training is there, and a check that it is this one."""
    run, wanted = recipe.run(row, seed), _material(recipe, row, seed)
    path = run / "material.json"
    if path.is_file():
        theirs = json.loads(path.read_text())
        for key in wanted.keys() | theirs.keys():
            if wanted.get(key) != theirs.get(key):
                raise ConfigError(f"{run} was trained with {key} {theirs.get(key)}, not {wanted.get(key)}; give "
                                  "another --output")  # fmt: skip
    return (run / "held_out.json").is_file() and (recipe.bank(row, seed) / "config.toml").is_file()


def _material(recipe: Recipe, row: Row, seed: int) -> Json:
    """All that a training depends on, as JSON gives it back."""
    settings = asdict(recipe.config(row, seed))
    flat = {f"{group}.{name}": value for group, values in settings.items() for name, value in values.items()}
    sizes = [(path.name, path.stat().st_size) for path in shards_of(recipe.pairs / "train")]
    flat["shards"] = hashlib.sha256(repr(sizes).encode()).hexdigest()[:12]
    material: Json = json.loads(json.dumps(flat))
    return material


def train(recipe: Recipe, row: Row, seed: int) -> Path:
    """The training of one row, in its process; what is there already, or was begun, is not done again. Its folder."""
    torch.set_num_threads(1)
    run, config = recipe.run(row, seed), recipe.config(row, seed)
    state = run / "state.json"
    if state.is_file() and json.loads(state.read_text())["step"] == config.train.steps:
        return run
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "material.json", _material(recipe, row, seed), DataError)
    fabric = launched(accelerator=recipe.accelerator)
    trainer = miao_trainer(config, run, pairs=recipe.pairs / "train", fabric=fabric)
    trainer.resume()
    trainer.fit(lambda *_: None, lambda _: None)
    return run


def _train(recipe: Recipe, row: Row, seed: int) -> str:
    """One row in its process: train, export, measure; in words."""
    run, config = train(recipe, row, seed), recipe.config(row, seed)
    table = VoiceTable.load(recipe.pairs / "voices.safetensors")
    shards = chain.from_iterable(map(read_shard, shards_of(recipe.pairs / "train")))
    notes = [note for pair in islice(shards, _TRIM_PAIRS) for note in notes_of(pair)]
    table = replace(table, trim_db=power_trim(load_model(run), notes, len(table.kind)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter says is for whoever changes the nets
        export_bank(run, table, recipe.bank(row, seed), uses_context=config.batch.context)
    pairs = held_out_pairs(recipe.pairs / "validation", HELD_OUT)
    found = measured(run, pairs, config.objective.audio_encoder)
    write_json(run / "held_out.json", {"n": len(pairs), "values": found}, DataError)
    return f"{row.name}, seed {seed}: level error {found['error_db/all'][0]:.2f} dB" + (
        f", recall@1 {found['recall@1'][0]:.3f}" if "recall@1" in found else "")  # fmt: skip


def measured(run: Path, pairs: list[Pair], has_audio: bool) -> dict[str, list[float]]:
    """`training.held_out.measure` with 95 % intervals: by name, value and both ends.

    Of levels by bootstrap over eighths of the pairs, of shares (recall, accuracy) by Wilson's formula for that many
    pairs.
    """
    model = load_model(run)
    whole = measure(model, load_understanding(run) if has_audio else None, pairs)
    parts = [measure(model, None, pairs[first::_PARTS]) for first in range(min(_PARTS, len(pairs)))]
    found = {}
    for name, value in whole.items():
        if name in parts[0]:
            interval = mean_of(part[name] for part in parts if name in part)
            ends = [value + interval.low - interval.mean, value + interval.high - interval.mean]
        else:
            ends = wilson(value, len(pairs))
        found[name] = [value, *ends]
    return found


def wilson(share: float, n: int) -> list[float]:
    """The 95 % interval of a share of n."""
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return [float(middle - half), float(middle + half)]
