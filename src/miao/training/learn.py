"""A voice learnt from a few dozen notes: what the nets of a bank are told of it, and what is added to what they write.

The nets stay as they are. Every note is played from its start to its end as the engine plays it, each chunk from the
last token that was written before, and what comes out is compared with what was measured: what is optimised is what
will be heard. The voice starts as one of the bank's own voices, and what it differs by changes slowly with pitch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from miao.arrays import Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import N_INDICES, STEP_KNOTS, Correction, knot_weights
from miao.bank.voices import PITCH_NODES, SEMITONES_A_NODE, VoiceEmbeddings
from miao.config import Count, Range, Rate, Weight, Whole, check
from miao.datasets.notes import NoteData
from miao.datasets.voice_notes import VoiceNotes
from miao.nets.model import node_below
from miao.training.bank_nets import bank_nets

_AUDIBLE_LEVELS = 70 / tk.LEVEL_STEP_DB
_FAINT = 0.05


@dataclass(frozen=True)
class LearnConfig:
    """How a voice is learnt."""

    steps: Count = 100
    batch_notes: Count = 16
    embedding_rate: Rate = 0.01
    profile_rate: Rate = 0.02  # in units of 8 levels
    correction_rate: Rate = 0.1  # in levels
    smooth_semitones: Annotated[float, Range(0.01, 128)] = 4.0  # what is learnt at one pitch spreads that far
    size: Weight = 0.002  # cost of a correction of one level
    longest_seconds: Annotated[float, Range(0.1, 600)] = 4.0  # of a held note
    seed: Whole = 0

    def __post_init__(self) -> None:
        check(self)


class VoiceParameters(nn.Module):
    """What is learnt: differences to a voice of the bank at the pitch nodes within the notes' range; beyond it the
    outermost ones hold."""

    def __init__(self, start: VoiceEmbeddings, pitches: Integers, middle_velocity: float, has_dynamics: bool,
                 smooth_semitones: float) -> None:  # fmt: skip
        super().__init__()
        first, last = int(pitches.min() // SEMITONES_A_NODE), int(-(-pitches.max() // SEMITONES_A_NODE))
        self.node: Tensor
        self.register_buffer("node", torch.arange(PITCH_NODES).clamp(first, last) - first)
        n = last - first + 1
        distance = SEMITONES_A_NODE * (torch.arange(n)[:, None] - torch.arange(n)[None, :])
        near = torch.exp(-0.5 * (distance / smooth_semitones).square())
        self.near: Tensor
        self.register_buffer("near", near / near.sum(dim=1, keepdim=True))
        self.start_embedding = torch.from_numpy(start.embeddings[0].astype(np.float32))
        self.start_profiles = torch.from_numpy(start.profiles[:, 0].astype(np.float32))
        self.embedding = nn.Parameter(torch.zeros(n + 1, self.start_embedding.shape[1]))  # the last is for all pitches
        self.profiles = nn.Parameter(torch.zeros(3, n + 1, tk.N_CELLS))
        sizes = zip(N_INDICES, STEP_KNOTS, strict=True)
        self.corrections = nn.ParameterList(torch.zeros(i, len(knots), 2, n + 1, tk.N_CELLS) for i, knots in sizes)
        self.weights = [torch.from_numpy(knot_weights(kind)) for kind in range(3)]
        self.middle_velocity, self.has_dynamics = middle_velocity, has_dynamics

    def at_nodes(self, values: Tensor) -> Tensor:
        """Parameters [..., n + 1, W] at all pitch nodes, [..., PITCH_NODES, W]."""
        return (self.near @ values[..., :-1, :] + values[..., -1:, :])[..., self.node, :]

    def told(self, kind: int, pitch: Tensor, *, is_corrected: bool = True) -> tuple[Tensor, Tensor]:
        """Embedding and profile at pitches, [B, W] and [B, C]; or those of the voice that was set out from."""
        embedding, profile = self.start_embedding, self.start_profiles[kind]
        if is_corrected:
            embedding = embedding + self.at_nodes(self.embedding)
            profile = profile + self.at_nodes(self.profiles[kind])
        return _between(embedding, pitch), _between(profile, pitch)

    def corrected(self, kind: int, levels: Tensor, pitch: Tensor, velocity: Tensor, index: int) -> Tensor:
        """Levels as the engine will have them, [B, a, C]."""
        table = self.at_nodes(self.corrections[kind][min(index, N_INDICES[kind] - 1)])  # [knots, 2, nodes, C]
        at = _between(table.movedim(2, 0), pitch)  # [B, knots, 2, C]
        knots = at[:, :, 0]
        if self.has_dynamics:
            knots = knots + (velocity - self.middle_velocity)[:, None, None] * at[:, :, 1]
        return (levels + torch.einsum("ak,bkc->bac", self.weights[kind], knots)).clamp(0, tk.N_LEVELS - 1)

    def penalty(self, config: LearnConfig) -> Tensor:
        """What corrections cost."""
        return config.size * sum((c.square().mean() for c in self.corrections), start=torch.zeros(()))

    def result(self) -> tuple[VoiceEmbeddings, Correction]:
        """What was learnt, as a voice file has it."""
        with torch.no_grad():
            embedding = (self.start_embedding + self.at_nodes(self.embedding))[None].numpy().astype(np.float16)
            profiles = (self.start_profiles + self.at_nodes(self.profiles))[:, None].numpy().astype(np.float16)
            levels = tuple(self.at_nodes(c).numpy().astype(np.float16) for c in self.corrections)
        return VoiceEmbeddings(embedding, profiles), Correction(levels, self.middle_velocity)


def _between(nodes: Tensor, pitch: Tensor) -> Tensor:
    """What nodes [PITCH_NODES, ...] say at pitches [B], in straight lines: [B, ...]."""
    low, share = node_below(pitch)
    share = share.view(-1, *[1] * (nodes.dim() - 1))
    return (1 - share) * nodes[low] + share * nodes[low + 1]


class _Rollout:
    """Plays notes chunk by chunk with the nets of a bank and sums up how far they are from what was measured."""

    def __init__(self, nets: list[nn.Module], width: int, longest_seconds: float) -> None:
        self.nets, self.width, self.longest_seconds = nets, width, longest_seconds

    def loss(self, voice: VoiceParameters, notes: list[NoteData], is_released: list[bool]) -> Tensor:
        """Mean absolute error of levels over cells by audibility, in levels."""
        self.total, self.weight = torch.zeros(()), torch.zeros(())
        self.pitch = torch.tensor([float(n.pitch) for n in notes])
        self.velocity = torch.tensor([n.velocity / 127 for n in notes])
        self.loudest = torch.tensor([float(n.tokens.held[..., : tk.PITCH_CELL].max()) for n in notes])
        times = [tk.held_times(len(n.tokens.held)) for n in notes]
        last = torch.zeros(len(notes), tk.N_CELLS)
        longest = max(len(n.tokens.held) for n in notes)
        for i in range(longest):
            kind = tk.SUSTAIN if i else tk.ATTACK
            rows, valid, ages = [], [], []
            for row, note in enumerate(notes):
                if i >= len(note.tokens.held) or times[row][i * tk.CHUNK_STEPS] > self.longest_seconds:
                    continue
                age = float(times[row][i * tk.CHUNK_STEPS])
                n_valid = int(np.ceil((note.tokens.hold_seconds - age) / tk.STEP_SECONDS[kind] - 1e-6))
                if i == 0 or n_valid > 0:
                    rows.append(row)
                    valid.append(min(max(n_valid, 1), tk.CHUNK_STEPS))
                    ages.append(age)
            if rows:
                target = torch.from_numpy(np.stack([notes[row].tokens.held[i] for row in rows]).astype(np.float32))
                last = self._chunk(voice, kind, max(i - 1, 0), rows, valid, ages, last, target)
        is_cut = [n.tokens.hold_seconds > self.longest_seconds + 0.64 for n in notes]  # what was last is then not known
        for row in np.flatnonzero(is_cut).tolist():
            flat = notes[row].tokens.held.reshape(-1, tk.N_CELLS)
            before = max(int(np.searchsorted(times[row], notes[row].tokens.hold_seconds - 1e-6)) - 1, 0)
            last = last.clone()
            last[row] = torch.from_numpy(flat[before].astype(np.float32))
        self._releases(voice, notes, is_released, last)
        return self.total / self.weight

    def _releases(self, voice: VoiceParameters, notes: list[NoteData], is_released: list[bool], last: Tensor) -> None:
        """Add the errors of releases: heard ones are compared with what was measured and then with silence, so that
        notes end; where none was heard, notes are to end as the voice does that was set out from."""
        n_chunks = [len(n.tokens.release) + 1 if heard else 2 for n, heard in zip(notes, is_released, strict=True)]
        silence = np.zeros((tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
        silence[:, tk.PITCH_CELL] = tk.CENTS_CENTRE
        as_before = last.detach()
        for i in range(max(n_chunks)):
            rows = [row for row, n in enumerate(n_chunks) if i < n]
            ages = [notes[r].tokens.hold_seconds + i * tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE] for r in rows]
            targets = [notes[r].tokens.release[i] if i < len(notes[r].tokens.release) else silence for r in rows]
            target = torch.from_numpy(np.stack(targets).astype(np.float32))
            unheard = [n for n, row in enumerate(rows) if not is_released[row]]
            if unheard:
                with torch.no_grad():
                    those = [rows[n] for n in unheard]
                    known = [ages[n] for n in unheard]
                    written = self._written(voice, tk.RELEASE, i, those, known, as_before, is_corrected=False)
                target[unheard] = written
                as_before = as_before.clone()
                as_before[those] = written[:, -1]
            last = self._chunk(voice, tk.RELEASE, i, rows, [tk.CHUNK_STEPS] * len(rows), ages, last, target)

    def _written(self, voice: VoiceParameters, kind: int, index: int, rows: list[int], ages: list[float], last: Tensor,
                 *, is_corrected: bool = True) -> Tensor:  # fmt: skip
        """The next chunk of some notes as the engine will have it, [B, a, C]; or as the voice set out from has it."""
        at = torch.tensor(rows)
        pitch, velocity = self.pitch[at], self.velocity[at]
        number = torch.full((len(rows),), min(index, tk.MAX_CHUNK_INDEX))
        told = voice.told(kind, pitch, is_corrected=is_corrected)
        context = torch.zeros(len(rows), self.width)
        out = self.nets[kind](*told, pitch, velocity, number, torch.tensor(ages), last[at], context)[0]
        return voice.corrected(kind, out, pitch, velocity, index) if is_corrected else out

    def _chunk(self, voice: VoiceParameters, kind: int, index: int, rows: list[int], valid: list[int],
               ages: list[float], last: Tensor, target: Tensor) -> Tensor:  # fmt: skip
        """Write one chunk of some notes, add its error; the last token of every note after it."""
        at = torch.tensor(rows)
        out = self._written(voice, kind, index, rows, ages, last)
        n_valid = torch.tensor(valid)
        inside = torch.arange(tk.CHUNK_STEPS)[None, :, None] < n_valid[:, None, None]
        heard = torch.maximum(target, out.detach()) - self.loudest[at][:, None, None]
        weight = ((heard + _AUDIBLE_LEVELS) / (30 / tk.LEVEL_STEP_DB)).clamp(_FAINT, 1)
        weight[..., tk.PITCH_CELL] = 0.5
        weight = weight * inside * tk.STEP_SECONDS[kind] ** 0.5
        self.total = self.total + ((out - target).abs() * weight).sum()
        self.weight = self.weight + weight.sum()
        after = last.clone()
        after[at] = out[torch.arange(len(rows)), n_valid - 1]
        return after


def learn(
    bank: Bank, data: VoiceNotes, start: int, config: LearnConfig, tell: Callable[[float], None] | None = None
) -> tuple[VoiceEmbeddings, Correction]:
    """A voice that plays the notes as measured, setting out from the voice ``start`` of the bank.

    ``tell`` is called with the part that is done. One thread does the work: more wait for each other longer than they
    help, and beside other work very much so. Raises: BankError if the bank's nets cannot be learnt with.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _learn(bank, data, start, config, tell or (lambda done: None))
    finally:
        torch.set_num_threads(n_threads)


def _learn(
    bank: Bank, data: VoiceNotes, start: int, config: LearnConfig, tell: Callable[[float], None]
) -> tuple[VoiceEmbeddings, Correction]:
    assert bank.embeddings is not None
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    pitches, velocities = (np.array([getattr(n, name) for n in data.notes]) for name in ("pitch", "velocity"))
    own = slice(start, start + 1)
    known = VoiceEmbeddings(bank.embeddings.embeddings[own], bank.embeddings.profiles[:, own])
    voice = VoiceParameters(known, pitches, float(velocities.mean() / 127), len(np.unique(velocities)) > 1,
                            config.smooth_semitones)  # fmt: skip
    rollout = _Rollout(bank_nets(bank), bank.context_width, config.longest_seconds)
    groups = [
        {"params": [voice.embedding], "lr": config.embedding_rate},
        {"params": [voice.profiles], "lr": config.profile_rate},
        {"params": list(voice.corrections), "lr": config.correction_rate},
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config.steps))
    order: list[int] = []
    for step in range(config.steps):
        if len(order) < config.batch_notes:
            order += rng.permutation(len(data.notes)).tolist()
        some, order = order[: config.batch_notes], order[config.batch_notes :]
        loss = rollout.loss(voice, [data.notes[i] for i in some], [data.is_released[i] for i in some])
        optimizer.zero_grad(set_to_none=True)
        (loss + voice.penalty(config)).backward()
        nn.utils.clip_grad_norm_(voice.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        tell((step + 1) / config.steps)
    embeddings, correction = voice.result()
    return embeddings, replace(correction, release_seconds=release_seconds(data))


def release_seconds(data: VoiceNotes) -> float:
    """The longest release that was heard, down to 60 dB below the note's loudest level; infinite if none was heard."""
    longest = [0.0]
    for note, heard in zip(data.notes, data.is_released, strict=True):
        if heard:
            floor = int(note.tokens.held[..., : tk.PITCH_CELL].max()) - 60 / tk.LEVEL_STEP_DB
            loud = np.flatnonzero(note.tokens.release[..., : tk.PITCH_CELL].max(axis=2).ravel() > max(floor, 0))
            longest.append((float(loud[-1]) + 1 if len(loud) else 1.0) * tk.STEP_SECONDS[tk.RELEASE])
    return max(longest) or float("inf")


def _rate(step: int, steps: int) -> float:
    """Of the highest learning rate: a short rise, then half a cosine."""
    return min((step + 1) / 10, 0.5 + 0.5 * float(np.cos(np.pi * step / steps)))
