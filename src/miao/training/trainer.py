"""The training loop on Lightning Fabric: AdamW, cosine schedule with a ramp-up, checkpoints that a run goes on from.

A checkpoint is a folder: ``config.toml``, ``model.safetensors`` (the moving average, what is released),
``understanding.safetensors`` (the same of the audio encoder and its heads), ``training.safetensors`` (weights, momentum
encoders, queue, optimizer state), ``state.json``, ``log.jsonl``, TensorBoard's events. Every batch is drawn by random
generators seeded by the run's seed and the batch's number, so that resuming equals not having stopped; and in lanes
that processes share (batches.py), so that two processes go the way of one.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miao import tokens as tk
from miao.config import from_table, to_toml
from miao.datasets.notes import NoteData
from miao.errors import CheckpointError, ConfigError
from miao.model import ChunkInputs, ModelConfig
from miao.training.batches import BatchConfig, Batches
from miao.training.chunks import ChunkTable
from miao.training.objective import Miao, Objective, ObjectiveConfig, TrainBatch, Understanding

logger = logging.getLogger(__name__)

_ROLLOUT_CHUNKS = 512  # at once
_TABLES = ("model.decoder.voices", "model.decoder.keep", "model.decoder.profiles")  # looked up, so not drawn to zero
_LOG_EVERY = 50


@dataclass(frozen=True)
class TrainConfig:
    """How the nets are trained."""

    steps: int = 20_000
    accumulate: int = 1  # batches whose gradients make a step; the paper's 1024 pairs are 32 times 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ramp_up_steps: int = 500
    rollout_every: int = 0  # steps between plays of all notes by the net itself; 0 never, else divides checkpoint_every
    precision: str = "fp32"  # or "bf16" for the large matrix products
    average_decay: float = 0.999  # of the moving average of the weights
    max_grad_norm: float = 1.0
    checkpoint_every: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run; what a preset file may state."""

    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def launched(devices: int = 1, nodes: int = 1, accelerator: str = "cpu") -> Fabric:
    """Fabric with its processes under way: those of torchrun, or ``devices`` on each of ``nodes`` machines.

    One thread a process on a CPU: threads of several processes that wait for each other take the cores from each other.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy: Any = "auto"
    if devices * nodes > 1:
        # buffers are alike without being sent around; a loss that is switched off leaves parameters without gradient
        strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=True)
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    if accelerator == "cpu":
        torch.set_num_threads(1)
    return fabric


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear ramp-up, then half a cosine down to a hundredth."""
    if step < config.ramp_up_steps:
        return config.learning_rate * (step + 1) / config.ramp_up_steps
    share = (step - config.ramp_up_steps) / max(config.steps - config.ramp_up_steps, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(share, 1.0))))


class Trainer:
    """A run in a folder: step, save, resume."""

    def __init__(self, config: RunConfig, folder: Path, *, notes: list[NoteData] | None = None,
                 pairs: Path | None = None, fabric: Fabric | None = None) -> None:  # fmt: skip
        """Raises: ConfigError for settings that do not go together, DataError if there is nothing to train on."""
        _check(config, fabric.world_size if fabric else 1)
        torch.manual_seed(config.train.seed)
        self.config, self.folder, self.step_number = config, folder, 0
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1)
        self.notes, self.pairs = notes, pairs
        objective = Objective(config.objective, config.model, config.train.precision)
        named = [(n, p) for n, p in objective.named_parameters() if p.requires_grad]
        decayed = [p for n, p in named if p.ndim > 1 and not n.startswith(_TABLES)]
        others = [p for n, p in named if p.ndim <= 1 or n.startswith(_TABLES)]
        groups = [
            {"params": decayed, "weight_decay": config.train.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.train.learning_rate, betas=(0.9, 0.98), fused=True)
        self.forward, self.optimizer = self.fabric.setup(objective, optimizer)
        self.objective = objective
        self.average = {k: v.clone() for k, v in self._released().items()}
        self.batches = self._batches()

    def _batches(self) -> Batches:
        n, width = self.config.batch.lanes // self.fabric.world_size, self.config.model.width
        lanes = range(n * self.fabric.global_rank, n * (self.fabric.global_rank + 1))
        return Batches(self.config.batch, width, lanes, notes=self.notes, pairs=self.pairs,
                       first=self.step_number * self.config.train.accumulate)  # fmt: skip

    def _released(self) -> dict[str, Tensor]:
        """What the moving average is taken of: the nets without momentum encoders and queue."""
        state = self.objective.state_dict()
        return {k: v for k, v in state.items() if k.startswith(("model.", "understanding."))}

    def step(self) -> dict[str, float]:
        """One optimizer step; gives the losses and errors to log."""
        config = self.config.train
        self.objective.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step_number, config)
        if config.rollout_every and self.step_number and self.step_number % config.rollout_every == 0:
            self.batches.own = self.rollout()
        sums: dict[str, float] = {}
        for part in range(config.accumulate):
            batch = self._moved(self.batches.draw())
            with self.fabric.no_backward_sync(self.forward, enabled=part < config.accumulate - 1):
                results = self.forward(batch, self.step_number)
                self.fabric.backward(results["loss/total"] / config.accumulate)
            for name, value in results.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / config.accumulate
        self.fabric.clip_gradients(self.forward, self.optimizer, max_norm=config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.follow()
        self._average()
        self.step_number += 1
        return sums

    def _moved(self, batch: TrainBatch) -> TrainBatch:
        device = self.fabric.device
        if device.type == "cpu":
            return batch
        return _to(batch, device)

    def rollout(self) -> list[np.ndarray]:
        """All notes played by the averaged net from its own tokens, as the engine will; by kind the token that each
        chunk then sets out from, [M, C].

        Training on these besides the measured ones teaches the net to come back from its own errors (DAgger, Ross et
        al. 2011). Contexts are zero here.
        """
        player = Miao(self.config.model)
        player.load_state_dict({k.removeprefix("model."): v for k, v in self.average.items() if k.startswith("model.")})
        decode = decode_with(player.eval())
        tables, rank, n_processes = self.batches.tables, self.fabric.global_rank, self.fabric.world_size
        last = np.zeros((len(self.notes or ()), tk.N_CELLS), np.float32)
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
                        context=np.zeros((len(some), self.config.model.width), np.float32),
                    )
                    last[table.note[some]] = levels[np.arange(len(some)), table.n_valid[some] - 1]
        if n_processes > 1:
            for own in found:
                dist.all_reduce(torch.from_numpy(own))
        return found

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.train.average_decay, (1 + self.step_number) / (10 + self.step_number))
        for name, value in self._released().items():
            if value.is_floating_point():
                self.average[name].lerp_(value.cpu(), 1 - decay)
            else:
                self.average[name].copy_(value)

    def fit(
        self, on_log: Callable[[int, dict[str, float], float], None], on_checkpoint: Callable[[Path], object]
    ) -> None:
        """Train to the last step; logs every 50 steps, saves every ``checkpoint_every`` and at the end.

        What ``on_checkpoint`` gives is logged as well, if it is a dict of numbers.
        """
        config, started = self.config.train, time.monotonic()
        sums: dict[str, float] = {}
        first, since = self.step_number, self.step_number
        while self.step_number < config.steps:
            for name, value in self.step().items():
                sums[name] = sums.get(name, 0.0) + value
            if self.step_number % _LOG_EVERY == 0 or self.step_number == config.steps:
                means = self._means(sums, self.step_number - since)
                seconds = (time.monotonic() - started) / (self.step_number - first)
                sums, since = {}, self.step_number
                if self.fabric.is_global_zero:
                    self._log({"seconds_a_step": round(seconds, 4), **means})
                    on_log(self.step_number, means, seconds)
            if self.step_number % config.checkpoint_every == 0 or self.step_number == config.steps:
                if self.fabric.is_global_zero:
                    self.save()
                    measured = on_checkpoint(self.folder)
                    if isinstance(measured, dict):
                        self._log(measured)
                self.fabric.barrier()

    def _means(self, sums: dict[str, float], n: int) -> dict[str, float]:
        """Of n steps and all processes."""
        everywhere = self.fabric.all_reduce(torch.tensor(list(sums.values()), dtype=torch.float64), reduce_op="mean")
        assert isinstance(everywhere, Tensor)
        return {name: round(float(value) / n, 5) for name, value in zip(sums, everywhere, strict=True)}

    def _log(self, values: dict[str, float]) -> None:
        """A JSON line, and TensorBoard's where it is installed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log.jsonl", "a") as log:
            log.write(json.dumps({"step": self.step_number, **values}) + "\n")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        with SummaryWriter(str(self.folder / "tensorboard")) as writer:
            for name, value in values.items():
                writer.add_scalar(name, value, self.step_number)

    def save(self) -> None:
        """Write the checkpoint; each file under a temporary name first, the step's number last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {f"objective/{k}": v for k, v in self.objective.state_dict().items()}
        for n, slots in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer/{n}/{k}": v for k, v in slots.items()}
        parts = {"model.safetensors": _under("model.", self.average), "training.safetensors": state}
        if self.objective.understanding is not None:
            parts["understanding.safetensors"] = _under("understanding.", self.average)
        for name, tensors in parts.items():
            copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}  # shared ones twice
            save_file(copies, self.folder / f"{name}.tmp")
            os.replace(self.folder / f"{name}.tmp", self.folder / name)
        (self.folder / "config.toml").write_text(to_toml(asdict(self.config)))
        (self.folder / "state.json").write_text(json.dumps({"step": self.step_number}))

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; false if it holds none. Raises: CheckpointError if it does not fit."""
        if not (self.folder / "state.json").exists():
            return False
        try:
            state = load_file(self.folder / "training.safetensors")
            for name in ("midi_queue", "audio_queue"):  # they grow: a new run's are empty
                if f"objective/{name}" in state:
                    setattr(self.objective, name, state[f"objective/{name}"].to(self.fabric.device))
            self.objective.load_state_dict(_under("objective/", state))
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith("optimizer/"):
                    _, n, name = key.split("/")
                    slots.setdefault(int(n), {})[name] = value
            optimizer = self.optimizer.state_dict()
            self.optimizer.load_state_dict({"state": slots, "param_groups": optimizer["param_groups"]})
            for group in ("model", "understanding") if self.objective.understanding is not None else ("model",):
                some = load_file(self.folder / f"{group}.safetensors")
                self.average |= {f"{group}.{name}": value for name, value in some.items()}
            self.step_number = json.loads((self.folder / "state.json").read_text())["step"]
        except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.folder}: cannot resume ({error}); give another folder to start anew"
            ) from None
        self.batches = self._batches()
        return True


def _check(config: RunConfig, n_processes: int) -> None:
    train, batch = config.train, config.batch
    if train.rollout_every and train.checkpoint_every % train.rollout_every:
        raise ConfigError('"train.checkpoint_every" must be a multiple of "train.rollout_every"')
    if batch.lanes % n_processes:
        raise ConfigError(f'"batch.lanes" is {batch.lanes}: it must be a multiple of the {n_processes} processes')
    if batch.pairs % batch.lanes:
        raise ConfigError(f'"batch.pairs" is {batch.pairs}: it must be a multiple of "batch.lanes", {batch.lanes}')


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _to(thing: Any, device: torch.device) -> Any:
    """A dataclass of tensors, or a list of such, on a device."""
    if isinstance(thing, Tensor):
        return thing.to(device, non_blocking=True)
    if isinstance(thing, list):
        return [_to(one, device) for one in thing]
    if hasattr(thing, "__dataclass_fields__"):
        return type(thing)(**{name: _to(getattr(thing, name), device) for name in thing.__dataclass_fields__})
    return thing


def _place_in_note(table: ChunkTable) -> np.ndarray:
    """Which chunk of its note each row is, counted from 0; the rows of a note lie together."""
    first = np.unique(table.note, return_index=True)[1]
    return np.arange(len(table.note)) - np.repeat(first, np.diff([*first, len(table.note)]))


def load_model(folder: Path) -> Miao:
    """The averaged model of a checkpoint, ready to evaluate or export. Raises: CheckpointError."""
    return _loaded(folder, "model", lambda config: Miao(config.model))


def load_understanding(folder: Path) -> Understanding:
    """The averaged audio encoder of a checkpoint and its heads. Raises: CheckpointError."""
    def build(config: RunConfig) -> nn.Module:
        return Understanding(config.model, config.objective.contrast_on, config.objective.contrast_width)

    return _loaded(folder, "understanding", build)


def _loaded(folder: Path, name: str, build: Callable[[RunConfig], nn.Module]) -> Any:
    import tomllib

    try:
        net = build(from_table(RunConfig, tomllib.loads((folder / "config.toml").read_text())))
        net.load_state_dict(load_file(folder / f"{name}.safetensors"))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: {error}; a checkpoint is a folder with config.toml and {name}.safetensors"
        ) from None
    return net.eval()


def decode_with(model: Miao) -> Callable:
    """The model as the engine's decoder: arrays in, expected levels and spread out (see engine.Decoder)."""

    @torch.no_grad()
    def decode(kind: int, **arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = ChunkInputs(**{k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()})
        out = model.decoder(kind, inputs)
        return out.expected().numpy(), out.log_scale.exp().numpy()

    return decode
