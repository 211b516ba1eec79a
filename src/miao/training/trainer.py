"""The training loop: AdamW, cosine schedule with a ramp-up, checkpoints that a killed run goes on from.

A checkpoint is a folder: ``config.toml``, ``model.safetensors`` (the moving average, what is released),
``training.safetensors`` (weights and optimizer state), ``state.json``, ``log.jsonl``. Every step draws from its own
random generator, seeded by the run's seed and the step's number, so that resuming equals not having stopped.
Under torchrun the processes share each step's chunks and average their gradients; the first one saves.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miao import tokens as tk
from miao.config import from_table, to_toml
from miao.datasets.notes import NoteData
from miao.errors import CheckpointError, ConfigError
from miao.model import AudioDecoder, LevelDistribution, MidiEncoder, ModelConfig
from miao.training.chunks import Batch, ChunkTable, chunk_tables, draw_phrase, gather, heard_in_either, rows_by_note
from miao.training.losses import am_loss, level_error_db

logger = logging.getLogger(__name__)

_ROLLOUT_CHUNKS = 512  # at once
_TABLES = ("decoder.voices", "decoder.keep", "decoder.profiles")  # looked up, so not drawn to zero


@dataclass(frozen=True)
class TrainConfig:
    """How a bank is trained."""

    steps: int = 20_000
    chunks: tuple[int, int, int] = (128, 160, 128)  # drawn a step by all processes: attack, sustain, release
    phrases: int = 3  # windows with context a step, in each process
    phrase_chunks: int = 12  # of each kind, from each phrase
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ramp_up_steps: int = 500
    label_smoothing: float = 0.13  # α
    smoothing_form: str = "neighbours"
    previous_noise_levels: float = 1.5  # disturbance of the tokens that a chunk sets out from
    rollout_every: int = 0  # steps between plays of all notes by the net itself; 0 never, else divides checkpoint_every
    own_share: float = 0.5  # of chunks set out from the net's own last token, once it has played
    precision: str = "fp32"  # or "bf16" for the large matrix products
    average_decay: float = 0.999  # of the moving average of the weights
    max_grad_norm: float = 1.0
    checkpoint_every: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run; what a preset file may state."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def join_processes() -> bool:
    """Under torchrun, meet the other processes of the run; whether this is the first of them, or the only one."""
    if "RANK" not in os.environ:
        return True
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    torch.set_num_threads(1)  # two processes with threads that wait for each other take the cores from each other
    return dist.get_rank() == 0


class Miao(nn.Module):
    """The two nets that training and synthesis share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = MidiEncoder(config), AudioDecoder(config)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear ramp-up, then half a cosine down to a hundredth."""
    if step < config.ramp_up_steps:
        return config.learning_rate * (step + 1) / config.ramp_up_steps
    share = (step - config.ramp_up_steps) / max(config.steps - config.ramp_up_steps, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(share, 1.0))))


class Trainer:
    """A run in a folder: step, save, resume."""

    def __init__(self, config: RunConfig, notes: list[NoteData], folder: Path) -> None:
        torch.manual_seed(config.train.seed)
        self.config, self.folder, self.step_number = config, folder, 0
        self.rank, self.n_processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.model = Miao(config.model)
        self.notes, self.tables = notes, chunk_tables(notes)
        self.rows_of = rows_by_note(self.tables)
        voices = np.array([n.voice for n in notes])
        self.by_voice = [np.flatnonzero(voices == v) for v in np.unique(voices)]
        self.chances = [self._chances(table) for table in self.tables]
        named = list(self.model.named_parameters())
        decayed = [p for n, p in named if p.ndim > 1 and not n.startswith(_TABLES)]
        others = [p for n, p in named if p.ndim <= 1 or n.startswith(_TABLES)]
        groups = [
            {"params": decayed, "weight_decay": config.train.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.train.learning_rate, betas=(0.9, 0.98), fused=True)
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.own: list[np.ndarray] | None = None  # by kind: the net's own token before each chunk, [M, C]
        if config.train.rollout_every and config.train.checkpoint_every % config.train.rollout_every:
            raise ConfigError('"train.checkpoint_every" must be a multiple of "train.rollout_every"')

    @staticmethod
    def _chances(table: ChunkTable) -> np.ndarray:
        """Cumulative chance of each row: of a voice by the root of its notes, and late chunks of long notes less often.

        A drum key has a tenth of a program's notes, all of one pitch: it needs less, but more than a tenth.
        """
        weight = 1.0 / (1 + table.index)
        n_voices = int(table.voice.max()) + 1
        total = np.bincount(table.voice, weights=weight, minlength=n_voices)
        n_notes = np.bincount(table.voice[np.unique(table.note, return_index=True)[1]], minlength=n_voices)
        chance = np.cumsum(np.sqrt(n_notes)[table.voice] * weight / total[table.voice])
        return chance / chance[-1]

    def draw(self, rng: np.random.Generator) -> list[Batch]:
        """One batch a kind: single chunks without context, then chunks of phrases with theirs."""
        config = self.config.train
        contexts = torch.zeros(0, 0, self.config.model.width)
        phrases = []
        if config.phrases:
            voices = rng.integers(0, len(self.by_voice), config.phrases)
            phrases = [draw_phrase(self.notes, self.by_voice[v], self.rows_of, rng) for v in voices]
            contexts = self.model.encoder(torch.from_numpy(np.stack([p.frames for p in phrases]))).context()
        batches = []
        for table, chance, n in zip(self.tables, self.chances, config.chunks, strict=True):
            n //= self.n_processes
            rows = [np.searchsorted(chance, rng.random(n))]
            context = [torch.zeros(n, self.config.model.width)]
            for window, phrase in enumerate(phrases):
                some = rng.permutation(len(phrase.rows[table.kind]))[: config.phrase_chunks]
                rows.append(phrase.rows[table.kind][some])
                context.append(contexts[window, torch.from_numpy(phrase.tokens[table.kind][some])])
            chosen, own = np.concatenate(rows), None
            if self.own is not None and table.kind != tk.ATTACK:
                own = np.where(rng.random(len(chosen)) < config.own_share, 1, 0)[:, None] * self.own[table.kind][chosen]
            batches.append(gather(table, chosen, rng, config.previous_noise_levels, torch.cat(context), own))
        return batches

    def predict(self, batches: list[Batch]) -> list[LevelDistribution]:
        """Distributions of all batches, the image of all kinds refined at once (so that batch norm sees them alike)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.train.precision == "bf16"):
            decoder = self.model.decoder
            voices = [decoder.voice_at(b.kind, b.inputs.voice, b.inputs.pitch) for b in batches]
            started = [
                decoder.start(b.kind, b.inputs, voice, is_attack=b.kind == tk.ATTACK)
                for b, voice in zip(batches, voices, strict=True)
            ]
        sizes = [len(image) for image, _ in started]
        images, anchors = (torch.cat(some).float() for some in zip(*started, strict=True))
        both = self.model.decoder.finish(images, anchors)
        return [
            LevelDistribution(m, s) for m, s in zip(both.mean.split(sizes), both.log_scale.split(sizes), strict=True)
        ]

    def step(self) -> dict[str, float]:
        """One optimizer step; gives the losses and errors to log."""
        config = self.config.train
        rng = np.random.default_rng([config.seed, self.step_number, self.rank])
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step_number, config)
        if config.rollout_every and self.step_number and self.step_number % config.rollout_every == 0:
            self.own = self.rollout()
        batches = self.draw(rng)
        outputs = self.predict(batches)
        losses = [
            am_loss(
                o, b.target, heard_in_either(b, o.mean.detach()), config.label_smoothing, config.smoothing_form
            )
            for o, b in zip(outputs, batches, strict=True)
        ]
        loss: Tensor = torch.stack(losses).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self._average()
        self.step_number += 1
        names = ("attack", "sustain", "release")
        with torch.no_grad():
            errors = {
                f"error_db/{names[b.kind]}": float(level_error_db(o, b.target, b.weight))
                for o, b in zip(outputs, batches, strict=True)
            }
        return {"loss/am": float(loss.detach()), **errors}

    def rollout(self) -> list[np.ndarray]:
        """All notes played by the averaged net from its own tokens, as the engine will; by kind the token that each
        chunk then sets out from, [M, C].

        Training on these besides the measured ones teaches the net to come back from its own errors (DAgger, Ross et
        al. 2011). Contexts are zero here.
        """
        player = Miao(self.config.model)
        player.load_state_dict(self.average)
        decode = decode_with(player.eval())
        last = np.zeros((len(self.notes), tk.N_CELLS), np.float32)
        found = [np.zeros((len(t.note), tk.N_CELLS), np.float32) for t in self.tables]
        for table, own in zip(self.tables, found, strict=True):
            first = np.unique(table.note, return_index=True)[1]
            place = np.arange(len(table.note)) - np.repeat(first, np.diff([*first, len(table.note)]))
            mine = table.note % self.n_processes == self.rank
            for number in range(int(place.max()) + 1):
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
        if self.n_processes > 1:
            for own in found:
                dist.all_reduce(torch.from_numpy(own))
        return found

    @torch.no_grad()
    def _share_gradients(self) -> None:
        """The mean of all processes' gradients, in one exchange."""
        if self.n_processes == 1:
            return
        parameters = list(self.model.parameters())
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, grad in zip(parameters, (flat / self.n_processes).split([p.numel() for p in parameters]), strict=True):
            p.grad = grad.view_as(p)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.train.average_decay, (1 + self.step_number) / (10 + self.step_number))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def fit(
        self, on_log: Callable[[int, dict[str, float], float], None], on_checkpoint: Callable[[Path], object]
    ) -> None:
        """Train to the last step; logs every 50 steps, saves every ``checkpoint_every`` and at the end."""
        config, started = self.config.train, time.monotonic()
        sums: dict[str, float] = {}
        first = self.step_number
        while self.step_number < config.steps:
            for name, value in self.step().items():
                sums[name] = sums.get(name, 0.0) + value
            if self.rank:
                continue
            if self.step_number % 50 == 0:
                means = {name: round(value / 50, 4) for name, value in sums.items()}
                seconds = (time.monotonic() - started) / (self.step_number - first)
                with open(self.folder / "log.jsonl", "a") as log:
                    log.write(
                        json.dumps({"step": self.step_number, "seconds_a_step": round(seconds, 4), **means}) + "\n"
                    )
                on_log(self.step_number, means, seconds)
                sums = {}
            if self.step_number % config.checkpoint_every == 0 or self.step_number == config.steps:
                self.save()
                on_checkpoint(self.folder)

    def save(self) -> None:
        """Write the checkpoint; each file under a temporary name first, the step's number last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        optimizer = self.optimizer.state_dict()
        state = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        for n, slots in optimizer["state"].items():
            state |= {f"optimizer/{n}/{k}": v for k, v in slots.items()}
        for name, tensors in (("model.safetensors", self.average), ("training.safetensors", state)):
            save_file({k: v.contiguous() for k, v in tensors.items()}, self.folder / f"{name}.tmp")
            os.replace(self.folder / f"{name}.tmp", self.folder / name)
        (self.folder / "config.toml").write_text(to_toml(asdict(self.config)))
        (self.folder / "state.json").write_text(json.dumps({"step": self.step_number}))

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; false if it holds none. Raises: CheckpointError if it does not fit."""
        if not (self.folder / "state.json").exists():
            return False
        try:
            state = load_file(self.folder / "training.safetensors")
            self.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model/")})
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith("optimizer/"):
                    _, n, name = key.split("/")
                    slots.setdefault(int(n), {})[name] = value
            optimizer = self.optimizer.state_dict()
            self.optimizer.load_state_dict({"state": slots, "param_groups": optimizer["param_groups"]})
            self.average = load_file(self.folder / "model.safetensors")
            self.step_number = json.loads((self.folder / "state.json").read_text())["step"]
        except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.folder}: cannot resume ({error}); give another folder to start anew"
            ) from None
        return True


def load_model(folder: Path) -> Miao:
    """The averaged model of a checkpoint, ready to evaluate or export. Raises: CheckpointError."""
    import tomllib

    try:
        config = from_table(RunConfig, tomllib.loads((folder / "config.toml").read_text()))
        model = Miao(config.model)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: {error}; a checkpoint is a folder with config.toml and model.safetensors"
        ) from None
    return model.eval()


def decode_with(model: Miao) -> Callable:
    """The model as the engine's decoder: arrays in, expected levels and spread out (see engine.Decoder)."""
    from miao.model import ChunkInputs

    @torch.no_grad()
    def decode(kind: int, **arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = ChunkInputs(**{k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()})
        out = model.decoder(kind, inputs)
        return out.expected().numpy(), out.log_scale.exp().numpy()

    return decode
