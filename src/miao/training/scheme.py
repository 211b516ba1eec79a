"""The paper's scheme as a run: its settings, its trainer, and the nets of its checkpoints.

Beside ``model.safetensors`` a checkpoint has ``understanding.safetensors``: the audio encoder and its heads.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn

from miao.bank import tokens as tk
from miao.datasets.notes import NoteData
from miao.errors import ConfigError
from miao.nets.model import ChunkInputs, ModelConfig
from miao.training.batches import BatchConfig, Batches
from miao.training.chunks import ChunkTable
from miao.training.objective import Miao, Objective, ObjectiveConfig, Understanding
from miao.training.trainer import TrainConfig, Trainer, loaded, under

_ROLLOUT_CHUNKS = 512  # at once


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run; what a preset file may state."""

    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def miao_trainer(config: RunConfig, folder: Path, *, notes: list[NoteData] | None = None, pairs: Path | None = None,
                 fabric: Fabric | None = None) -> Trainer:  # fmt: skip
    """A run of the scheme in a folder, on single notes, pairs, or both.

    Raises: ConfigError for settings that do not go together, DataError if there is nothing to train on.
    """
    train = config.train
    if train.rollout_every and train.checkpoint_every % train.rollout_every:
        raise ConfigError('"train.checkpoint_every" must be a multiple of "train.rollout_every"')
    torch.manual_seed(train.seed)

    def batches(lanes: range, first: int) -> Batches:
        return Batches(config.batch, config.model.width, lanes, notes=notes, pairs=pairs, first=first)

    def play(trainer: Trainer) -> None:
        if train.rollout_every and trainer.step_number and trainer.step_number % train.rollout_every == 0:
            trainer.batches.own = rollout(trainer)

    objective = Objective(config.objective, config.model, train.precision)
    return Trainer(config, folder, objective, batches, fabric=fabric, before_step=play)


def rollout(trainer: Trainer) -> list[np.ndarray]:
    """All notes played by the averaged net from its own tokens, as the engine will; by kind the token that each
    chunk then sets out from, [M, C].

    Training on these besides the measured ones teaches the net to come back from its own errors (DAgger, Ross et
    al. 2011). Contexts are zero here.
    """
    player = Miao(trainer.config.model)
    player.load_state_dict(under("model.", trainer.average))
    decode = decode_with(player.eval())
    tables, rank, n_processes = trainer.batches.tables, trainer.fabric.global_rank, trainer.fabric.world_size
    last = np.zeros((1 + max((int(t.note.max(initial=-1)) for t in tables), default=-1), tk.N_CELLS), np.float32)
    found = [np.zeros((len(t.note), tk.N_CELLS), np.float32) for t in tables]
    for table, own in zip(tables, found, strict=True):
        place = _place_in_note(table)
        mine = table.note % n_processes == rank
        for number in range(int(place.max(initial=-1)) + 1):
            due = np.flatnonzero((place == number) & mine)
            for some in np.array_split(due, max(len(due) // _ROLLOUT_CHUNKS, 1)):
                own[some] = last[table.note[some]]
                levels, _ = decode(
                    table.kind,
                    **{name: getattr(table, name)[some] for name in ("voice", "pitch", "velocity", "index", "age")},
                    previous=own[some],
                    context=np.zeros((len(some), trainer.config.model.width), np.float32),
                )
                last[table.note[some]] = levels[np.arange(len(some)), table.n_valid[some] - 1]
    if n_processes > 1:
        for own in found:
            dist.all_reduce(torch.from_numpy(own))
    return found


def _place_in_note(table: ChunkTable) -> np.ndarray:
    """Which chunk of its note each row is, counted from 0; the rows of a note lie together."""
    first = np.unique(table.note, return_index=True)[1]
    return np.arange(len(table.note)) - np.repeat(first, np.diff([*first, len(table.note)]))


def load_model(folder: Path) -> Miao:
    """The averaged model of a checkpoint, ready to evaluate or export. Raises: CheckpointError."""
    model: Miao = loaded(folder, RunConfig, "model", lambda config: Miao(config.model))
    return model


def load_understanding(folder: Path) -> Understanding:
    """The averaged audio encoder of a checkpoint and its heads. Raises: CheckpointError."""

    def build(config: RunConfig) -> nn.Module:
        return Understanding(config.model, config.objective.contrast_on, config.objective.contrast_width)

    model: Understanding = loaded(folder, RunConfig, "understanding", build)
    return model


def decode_with(model: Miao) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The model as the engine's decoder: arrays in, expected levels and spread out (see bank.Decoder)."""

    @torch.no_grad()
    def decode(kind: int, **arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = ChunkInputs(**{k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()})
        out = model.decoder(kind, inputs)
        return out.expected().numpy(), out.log_scale.exp().numpy()

    return decode
