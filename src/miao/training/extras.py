"""Voices beyond General MIDI (kits, variations) learnt beside the finished nets of a bank, all of a kind at once.

The nets stay as they are, so that nothing else of the bank changes and voices that were learnt for it still fit. A drum
key is one vector, one profile and a correction; a program has vectors and profiles at pitch nodes. Notes are played as
the engine plays them, each chunk from the last token written before, and what comes out is compared with what was
measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from miao.arrays import Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import N_INDICES, STEP_KNOTS, knot_weights
from miao.bank.voices import (
    DRUM_KEYS,
    N_PROGRAMS,
    VoiceEmbeddings,
    drum_voice,
)
from miao.datasets.notes import NoteData
from miao.nets.model import node_below
from miao.training.bank_nets import bank_nets

_AUDIBLE_LEVELS = 70 / tk.LEVEL_STEP_DB
_FAINT = 0.05
_MOST_TRIM_DB = 6.0


@dataclass(frozen=True)
class ExtrasConfig:
    """How voices are learnt beside the nets."""

    steps: int = 250
    batch_notes: int = 96
    embedding_rate: float = 0.01
    profile_rate: float = 0.02  # in units of 8 levels
    correction_rate: float = 0.1  # in levels
    size: float = 0.002  # cost of a correction of one level
    most_chunks: int = 10  # of a note, as many as are played; what is left is as the last of them says
    seed: int = 0


@dataclass(frozen=True)
class LearntRows:
    """What was learnt of some voices, in their order."""

    embeddings: VoiceEmbeddings  # with one node for drums
    attack: (
        NDArray[np.float16] | None
    )  # [R, knots, 2, C] corrections as in `learnt_voice.Correction`, None for programs
    sustain: NDArray[np.float16] | None  # [R, indices, knots, 2, C]
    trim_db: Floats  # [R]


class Rows(nn.Module):
    """What is learnt: vectors and profiles of each voice, and for drums corrections."""

    def __init__(self, start: VoiceEmbeddings, is_drum: bool) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.from_numpy(start.embeddings.astype(np.float32)))  # [R, nodes, W]
        self.profiles = nn.Parameter(torch.from_numpy(start.profiles.astype(np.float32)))  # [3, R, nodes, C]
        n = len(start.embeddings) if is_drum else 0
        self.corrections = nn.ParameterList(
            torch.zeros(n, N_INDICES[kind], len(STEP_KNOTS[kind]), 2, tk.N_CELLS) for kind in (tk.ATTACK, tk.SUSTAIN)
        )
        self.weights = [torch.from_numpy(knot_weights(kind)) for kind in range(3)]

    def told(self, kind: int, row: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding [B, W] and profile [B, C] of voices at pitches."""
        tables = (self.embedding, self.profiles[kind])
        if self.embedding.shape[1] == 1:
            return tables[0][row, 0], tables[1][row, 0]
        low, far = node_below(pitch)
        share = far.unsqueeze(1)
        first, second = ((1 - share) * t[row, low] + share * t[row, low + 1] for t in tables)
        return first, second

    def corrected(self, kind: int, levels: Tensor, row: Tensor, velocity: Tensor, index: Tensor) -> Tensor:
        """Levels as the engine will have them, [B, a, C]."""
        if kind == tk.RELEASE or not len(self.corrections[kind]):
            return levels
        table = self.corrections[kind][row, index.clamp(max=N_INDICES[kind] - 1)]  # [B, knots, 2, C]
        knots = table[:, :, 0] + (velocity - 0.5)[:, None, None] * table[:, :, 1]
        return (levels + torch.einsum("ak,bkc->bac", self.weights[kind], knots)).clamp(0, tk.N_LEVELS - 1)


@dataclass(frozen=True)
class _Step:
    """One chunk of a note and what is known when it starts."""

    kind: int
    index: int
    age: float
    target: Floats
    n_valid: int


def _plan(note: NoteData, most: int) -> list[_Step]:
    held, hold = note.tokens.held, np.inf if note.is_drum else note.tokens.hold_seconds
    silence = np.zeros((1, tk.CHUNK_STEPS, tk.N_CELLS), np.uint8)
    silence[..., tk.PITCH_CELL] = tk.CENTS_CENTRE
    release = np.zeros((0, *silence.shape[1:]), np.uint8)
    if note.is_drum:
        held = np.concatenate([held, silence])
    else:
        release = np.concatenate([note.tokens.release, silence])
    times, steps = tk.held_times(len(held)), []
    for i, target in enumerate(held[:most]):
        kind, start = (tk.SUSTAIN, times[i * tk.CHUNK_STEPS]) if i else (tk.ATTACK, 0.0)
        n_valid = int(np.clip(np.ceil((hold - start) / tk.STEP_SECONDS[kind] - 1e-6), 0, tk.CHUNK_STEPS))
        if i == 0 or n_valid:
            steps.append(_Step(kind, max(i - 1, 0), start, target, max(n_valid, 1)))
    for i, target in enumerate(release[:4]):
        start = hold + i * tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE]
        steps.append(_Step(tk.RELEASE, i, start, target, tk.CHUNK_STEPS))
    return steps


def _played(nets: list[nn.Module], width: int, rows: Rows, place: Integers, notes: Sequence[NoteData],
            plans: Sequence[list[_Step]], tell: Callable[[Tensor, Tensor, Tensor], None]) -> None:  # fmt: skip
    """Play notes chunk by chunk; ``tell`` is told which notes, what came out [B, a, C] and what counts [B, a, C]."""
    pitch = torch.tensor([float(n.pitch) for n in notes])
    velocity = torch.tensor([n.velocity / 127 for n in notes])
    row = torch.tensor(list(place))
    last = torch.zeros(len(notes), tk.N_CELLS)
    for j in range(max(len(plan) for plan in plans)):
        for kind in (tk.ATTACK, tk.SUSTAIN, tk.RELEASE):
            due = [i for i, plan in enumerate(plans) if j < len(plan) and plan[j].kind == kind]
            if not due:
                continue
            at, steps = torch.tensor(due), [plans[i][j] for i in due]
            index = torch.tensor([min(s.index, tk.MAX_CHUNK_INDEX) for s in steps])
            age = torch.tensor([s.age for s in steps], dtype=torch.float32)
            told = rows.told(kind, row[at], pitch[at])
            out = nets[kind](*told, pitch[at], velocity[at], index, age, last[at], torch.zeros(len(due), width))[0]
            out = rows.corrected(kind, out, row[at], velocity[at], index)
            n_valid = torch.tensor([s.n_valid for s in steps])
            inside = torch.arange(tk.CHUNK_STEPS)[None, :, None] < n_valid[:, None, None]
            target = torch.from_numpy(np.stack([s.target for s in steps]).astype(np.float32))
            tell(at, out, torch.stack([target, inside.expand_as(target).float() * tk.STEP_SECONDS[kind] ** 0.5]))
            last = last.clone()
            last[at] = out[torch.arange(len(due)), n_valid - 1]


def learn_rows(bank: Bank, sets: Sequence[Sequence[NoteData]], start: VoiceEmbeddings, config: ExtrasConfig,
               tell: Callable[[int, float], None] = lambda step, loss: None) -> LearntRows:  # fmt: skip
    """Voices that play their notes as measured; ``sets`` holds the notes of each, all drums or all programs.

    ``start`` has a row for each (`starting_rows`); ``tell`` gets the number of each step and its mean error in levels.
    Raises: BankError if the bank's nets cannot be learnt with.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    is_drum = sets[0][0].is_drum
    rows, nets = Rows(start, is_drum), bank_nets(bank)
    notes = [note for some in sets for note in some]
    place = np.repeat(np.arange(len(sets)), [len(some) for some in sets])
    plans = [_plan(note, config.most_chunks) for note in notes]
    loudest = torch.tensor([float(n.tokens.held[..., : tk.PITCH_CELL].max()) for n in notes])
    groups = [{"params": [rows.embedding], "lr": config.embedding_rate},
              {"params": [rows.profiles], "lr": config.profile_rate},
              {"params": list(rows.corrections), "lr": config.correction_rate}]  # fmt: skip
    optimizer = torch.optim.Adam([g for g in groups if g["params"]], betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 10, 0.52 + 0.5 * float(np.cos(np.pi * step / config.steps)))
    )
    order: list[int] = []
    for step in range(config.steps):
        if len(order) < config.batch_notes:
            order += rng.permutation(len(notes)).tolist()
        some, order = order[: config.batch_notes], order[config.batch_notes :]
        sums = [torch.zeros(()), torch.zeros(())]

        def compare(at: Tensor, out: Tensor, wanted: Tensor, some: list[int] = some, sums: list[Tensor] = sums) -> None:
            target, inside = wanted
            heard = torch.maximum(target, out.detach()) - loudest[some][at][:, None, None]
            weight = ((heard + _AUDIBLE_LEVELS) / (30 / tk.LEVEL_STEP_DB)).clamp(_FAINT, 1)
            weight[..., tk.PITCH_CELL] = 0.5
            sums[0] = sums[0] + ((out - target).abs() * weight * inside).sum()
            sums[1] = sums[1] + (weight * inside).sum()

        _played(
            nets, bank.context_width, rows, place[some], [notes[i] for i in some], [plans[i] for i in some], compare
        )
        loss = sums[0] / sums[1]
        cost = config.size * sum((c.square().mean() for c in rows.corrections if len(c)), start=torch.zeros(()))
        optimizer.zero_grad(set_to_none=True)
        (loss + cost).backward()
        nn.utils.clip_grad_norm_(rows.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        tell(step, float(loss.detach()))
    return _result(bank, nets, rows, place, notes, plans)


@torch.no_grad()
def _result(bank: Bank, nets: list[nn.Module], rows: Rows, place: Integers, notes: list[NoteData],
            plans: list[list[_Step]]) -> LearntRows:  # fmt: skip
    """What was learnt, and how much power each voice still lacks (median of its notes)."""
    power = np.zeros((2, len(notes)))
    for first in range(0, len(notes), 128):
        some = list(range(first, min(first + 128, len(notes))))

        def add(at: Tensor, out: Tensor, wanted: Tensor, some: list[int] = some) -> None:
            inside = (wanted[1] > 0).numpy()
            for n, levels in enumerate((out.numpy(), wanted[0].numpy())):
                amplitude = np.square(tk.level_to_amplitude(levels[..., : tk.PITCH_CELL]))
                seconds = wanted[1].numpy().max(axis=(1, 2)) ** 2
                total = (amplitude * inside[..., : tk.PITCH_CELL]).sum(axis=(1, 2)) * seconds
                power[n, np.array(some)[at.numpy()]] += total

        _played(nets, bank.context_width, rows, place[some], [notes[i] for i in some], [plans[i] for i in some], add)
    lacks = 10 * np.log10((power[1] + 1e-20) / (power[0] + 1e-20))
    trims = [np.clip(np.median(lacks[place == row]), -_MOST_TRIM_DB, _MOST_TRIM_DB) for row in range(place.max() + 1)]
    attack, sustain = (c.numpy().astype(np.float16) if len(c) else None for c in rows.corrections)
    learnt = VoiceEmbeddings(rows.embedding.numpy().astype(np.float16), rows.profiles.numpy().astype(np.float16))
    return LearntRows(learnt, None if attack is None else attack[:, 0], sustain, np.array(trims, np.float32))


def starting_drums(bank: Bank, sets: Sequence[Sequence[NoteData]]) -> VoiceEmbeddings:
    """For each set of notes of a drum key the drum of the bank whose attack is most alike, with one node."""
    assert bank.embeddings is not None
    voices = np.array([drum_voice(key) for key in DRUM_KEYS])
    keys = np.array(DRUM_KEYS, np.float32)
    told = [bank.embeddings.at(kind, voices, keys) for kind in range(3)]
    assert bank.nets is not None
    chosen = []
    for notes in sets:
        errors = np.zeros(len(voices))
        for note in notes[:3]:
            target = note.tokens.held[0].astype(np.float32)
            # a drum of another key is tried at the pitch of this one, as it would play it
            levels, _ = bank.nets.write(tk.ATTACK, {
                "embedding": told[0][0], "profile": told[0][1], "pitch": np.full(len(voices), note.pitch, np.float32),
                "velocity": np.full(len(voices), note.velocity / 127, np.float32),
                "index": np.zeros(len(voices), np.int64), "age": np.zeros(len(voices), np.float32),
                "context": np.zeros((len(voices), bank.context_width), np.float32),
            })  # fmt: skip
            floor = target.max() - 60 / tk.LEVEL_STEP_DB
            errors += np.abs(np.maximum(levels, floor) - np.maximum(target, floor)).mean(axis=(1, 2))
        chosen.append(int(errors.argmin()))
    embeddings = told[0][0][chosen][:, None].astype(np.float16)
    profiles = np.stack([t[1][chosen][:, None] for t in told]).astype(np.float16)
    return VoiceEmbeddings(embeddings, profiles)


def starting_programs(bank: Bank, programs: Sequence[int]) -> VoiceEmbeddings:
    """The rows of the programs that variations vary."""
    assert bank.embeddings is not None and max(programs) < N_PROGRAMS
    which = list(programs)
    return VoiceEmbeddings(bank.embeddings.embeddings[which], bank.embeddings.profiles[:, which])
