"""The training loop on Lightning Fabric: AdamW, cosine schedule with a ramp-up, checkpoints that a run goes on from.

A checkpoint is a folder: ``config.toml``, ``model.safetensors`` (the moving average, what is released) and one file for
each further part of the objective, ``training.safetensors`` (all weights and the optimizer's state), ``state.json``,
``log.jsonl``, TensorBoard's events. Every batch is drawn by random generators seeded by the run's seed and the batch's
number, so that resuming equals not having stopped; and in lanes that processes share (batches.py), so that two
processes go the way of one. What is trained is passed in: the paper's scheme (scheme.py) or one of its peers.
"""

import json
import logging
import os
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from miao.config import TINY, Count, Range, Rate, Share, Whole, check, from_table, to_toml
from miao.errors import CheckpointError, ConfigError
from miao.files import write_bytes, write_json, write_text

logger = logging.getLogger(__name__)

ACCELERATORS = ("cpu", "cuda")
_TABLES = ("model.decoder.voices", "model.decoder.keep", "model.decoder.profiles")  # looked up, so not drawn to zero
_LOG_EVERY = 50


@dataclass(frozen=True)
class TrainConfig:
    """How the nets are trained."""

    steps: Count = 20_000
    accumulate: Count = 1  # batches whose gradients make a step; the paper's 1024 pairs are 32 times 32
    learning_rate: Rate = 1e-3
    weight_decay: Annotated[float, Range(0, 10)] = 0.05
    ramp_up_steps: Whole = 500
    rollout_every: Whole = 0  # steps between plays of all notes by the net itself; divides checkpoint_every
    precision: Literal["fp32", "bf16"] = "fp32"  # of the large matrix products
    average_decay: Share = 0.999  # of the moving average of the weights
    max_grad_norm: Annotated[float, Range(TINY, 1e9)] = 1.0
    checkpoint_every: Count = 1000
    seed: Whole = 0

    def __post_init__(self) -> None:
        check(self, "train")


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
    if accelerator not in ACCELERATORS:
        raise ConfigError(f'no accelerator "{accelerator}"; there are {", ".join(ACCELERATORS)}')
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
    except (RuntimeError, ValueError) as error:  # Lightning's own kinds are among these
        raise ConfigError(f"{accelerator}: cannot be used here: {str(error).splitlines()[0]}") from None
    fabric.launch()
    if accelerator == "cpu":
        torch.set_num_threads(1)
    return fabric


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear ramp-up, then half a cosine down to a hundredth."""
    if step < config.ramp_up_steps:
        return config.learning_rate * (step + 1) / config.ramp_up_steps
    share = (step - config.ramp_up_steps) / max(config.steps - config.ramp_up_steps, 1)
    rate: float = config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(share, 1.0))))
    return rate


class Trainer:
    """A run in a folder: step, save, resume."""

    def __init__(
        self,
        config: Any,
        folder: Path,
        objective: nn.Module,
        batches: Callable[[range, int], Any],
        fabric: Fabric | None = None,
        before_step: Callable[["Trainer"], None] | None = None,
    ) -> None:
        """A new run; `resume` goes on with one that is in the folder.

        config     a dataclass of settings that is kept with the run; its ``train`` is a TrainConfig, its ``batch`` has
                   ``lanes`` and ``pairs``
        objective  gives from a batch and the step's number losses by name, "loss/total" is what to descend; its
                   ``parts`` name the nets of which a moving average is kept; ``after_step``, if it has that, is called
        batches    makes the stream of batches of some lanes, from a batch's number on; ``draw`` gives the next

        Raises: ConfigError for settings that do not go together.
        """
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1)
        _check(config, self.fabric.world_size)
        self.config, self.folder, self.step_number = config, folder, 0
        self.make_batches, self.before_step = batches, before_step
        named = [(n, p) for n, p in objective.named_parameters() if p.requires_grad]
        decayed = [p for n, p in named if p.ndim > 1 and not n.startswith(_TABLES)]
        others = [p for n, p in named if p.ndim <= 1 or n.startswith(_TABLES)]
        groups = [
            {"params": decayed, "weight_decay": config.train.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.train.learning_rate, betas=(0.9, 0.98), fused=True)
        self.forward, self.optimizer = self.fabric.setup(objective, optimizer)
        self.objective: Any = objective
        self.average = {k: v.clone() for k, v in self._released().items()}
        self.batches = self._batches()

    def _batches(self) -> Any:
        n = self.config.batch.lanes // self.fabric.world_size
        lanes = range(n * self.fabric.global_rank, n * (self.fabric.global_rank + 1))
        return self.make_batches(lanes, self.step_number * self.config.train.accumulate)

    def _released(self) -> dict[str, Tensor]:
        """What the moving average is taken of: the nets without what only training has."""
        prefixes = tuple(f"{part}." for part in self.objective.parts)
        return {k: v for k, v in self.objective.state_dict().items() if k.startswith(prefixes)}

    def step(self) -> dict[str, float]:
        """One optimizer step; gives the losses and errors to log."""
        config = self.config.train
        self.objective.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step_number, config)
        if self.before_step is not None:
            self.before_step(self)
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
        if hasattr(self.objective, "after_step"):
            self.objective.after_step()
        self._average()
        self.step_number += 1
        return sums

    def _moved(self, batch: Any) -> Any:
        device = self.fabric.device
        if device.type == "cpu":
            return batch
        return _to(batch, device)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.train.average_decay, (1 + self.step_number) / (10 + self.step_number))
        for name, value in self._released().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
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
        """Write the checkpoint, the step's number last. Raises: CheckpointError if the disk refuses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {f"objective/{k}": v for k, v in self.objective.state_dict().items()}
        for n, slots in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer/{n}/{k}": v for k, v in slots.items()}
        parts = {f"{part}.safetensors": under(f"{part}.", self.average) for part in self.objective.parts}
        parts["training.safetensors"] = state
        for name, tensors in parts.items():
            copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}  # shared ones twice
            write_bytes(self.folder / name, save(copies), CheckpointError, is_durable=True)
        write_text(self.folder / "config.toml", to_toml(asdict(self.config)), CheckpointError, is_durable=True)
        write_json(self.folder / "state.json", {"step": self.step_number}, CheckpointError, is_durable=True)

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; false if it holds none. Raises: CheckpointError if it does not fit."""
        if not (self.folder / "state.json").exists():
            return False
        try:
            state = load_file(self.folder / "training.safetensors")
            for name in getattr(self.objective, "growing", ()):  # a new run's are empty
                setattr(self.objective, name, state[f"objective/{name}"].to(self.fabric.device))
            self.objective.load_state_dict(under("objective/", state))
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith("optimizer/"):
                    _, n, name = key.split("/")
                    slots.setdefault(int(n), {})[name] = value
            optimizer = self.optimizer.state_dict()
            self.optimizer.load_state_dict({"state": slots, "param_groups": optimizer["param_groups"]})
            for part in self.objective.parts:
                some = load_file(self.folder / f"{part}.safetensors")
                self.average |= {f"{part}.{name}": value.to(self.fabric.device) for name, value in some.items()}
            self.step_number = json.loads((self.folder / "state.json").read_text())["step"]
        except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.folder}: cannot resume ({error}); give another folder to start anew"
            ) from None
        self.batches = self._batches()
        return True


def _check(config: Any, n_processes: int) -> None:
    batch = config.batch
    if batch.lanes % n_processes:
        raise ConfigError(f'"batch.lanes" is {batch.lanes}: it must be a multiple of the {n_processes} processes')
    if batch.pairs % batch.lanes:
        raise ConfigError(f'"batch.pairs" is {batch.pairs}: it must be a multiple of "batch.lanes", {batch.lanes}')


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
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


def loaded(folder: Path, kind: type, part: str, build: Callable[[Any], nn.Module]) -> Any:
    """One net of a checkpoint, averaged, ready to evaluate or export; ``build`` makes it from the settings, a ``kind``.

    Raises: CheckpointError.
    """
    try:
        net = build(from_table(kind, tomllib.loads((folder / "config.toml").read_text())))
        net.load_state_dict(load_file(folder / f"{part}.safetensors"))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: {error}; a checkpoint is a folder with config.toml and {part}.safetensors"
        ) from None
    return net.eval()
