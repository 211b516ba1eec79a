"""Where batches come from: single notes in memory, pairs of MIDI and sound in shards, or both.

Work is laid out in lanes: each lane has its own shards and its own random numbers, and draws its part of every batch.
A process takes some of the lanes, so that one process and two see the same batches, no shard is read twice, and a run
that goes on draws what it would have drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Annotated

import numpy as np
import torch

from miao.bank import tokens as tk
from miao.bank.frames import MEL_FLOOR_DB, WINDOW_TOKENS, encode_frames, last_token
from miao.config import Count, Range, Share, Whole, check
from miao.datasets.notes import NoteData
from miao.datasets.pairs import SOUND_SUFFIX, SUFFIX, Pair, from_bytes, notes_of, shards_of
from miao.errors import DataError
from miao.training.chunks import Batch, ChunkTable, chunk_tables, gather, joined
from miao.training.objective import TrainBatch

_SHUFFLED = 256  # pairs that a lane holds back to draw from


@dataclass(frozen=True)
class BatchConfig:
    """What a batch is made of; numbers are of all processes together, and a multiple of ``lanes``."""

    chunks: tuple[Whole, Whole, Whole] = (128, 160, 128)  # of single notes: attack, sustain, release
    pairs: Whole = 32  # windows with their sound
    pair_chunks: Whole = 128  # of each kind, from the measured notes of those windows
    lanes: Count = 4  # shares that batches are drawn in; as many processes at the most, and as many shards at least
    previous_noise_levels: Annotated[float, Range(0, 64)] = 1.5  # disturbance of the tokens that a chunk sets out from
    # gain and tilt of x_a, drawn for each window up to this: other rooms, other microphones
    colour_db: Annotated[float, Range(0, 60)] = 0.0
    context: bool = True  # whether chunks of pairs are told what is played around them
    own_share: Share = 0.5  # of chunks set out from the net's own last token, once it has played
    seed: Whole = 0

    def __post_init__(self) -> None:
        check(self, "batch")


class Batches:
    """The batches of a run for one process."""

    def __init__(self, config: BatchConfig, width: int, lanes: range, *, notes: list[NoteData] | None = None,
                 pairs: Path | None = None, first: int = 0) -> None:  # fmt: skip
        """``lanes`` are this process's; ``first`` is how many batches have been drawn before.

        Raises: DataError if there is nothing to draw from, or too little for so many lanes.
        """
        self.config, self.width, self.lanes, self.n_drawn = config, width, lanes, first
        self.tables = chunk_tables(notes) if notes else []
        self.chances = [_chances(table) for table in self.tables]
        self.own: list[np.ndarray] | None = None  # by kind: the net's own token before each chunk, [M, C]
        self.streams: list[Iterator[Pair]] = []
        if pairs is not None and config.pairs:
            skip = first * (config.pairs // config.lanes)
            self.streams = [pair_stream(pairs, lane, config.lanes, config.seed, skip) for lane in lanes]
        if not self.streams and not (self.tables and sum(config.chunks)):
            raise DataError('nothing to train on: neither pairs and "batch.pairs" nor notes and "batch.chunks"')

    def draw(self) -> TrainBatch:
        """The next batch."""
        config, number = self.config, self.n_drawn
        parts = []
        for i, lane in enumerate(self.lanes):
            rng = np.random.default_rng([config.seed, number, lane])
            chunks = [self._notes(table, rng) for table in self.tables if config.chunks[table.kind]]
            pairs = list(islice(self.streams[i], config.pairs // config.lanes)) if self.streams else []
            if pairs and config.pair_chunks:
                chunks += pair_chunks(pairs, config.pair_chunks // config.lanes, config.previous_noise_levels,
                                      self.width, rng, has_context=config.context)  # fmt: skip
            parts.append((chunks, pairs))
        self.n_drawn += 1
        before = np.cumsum([0, *(len(pairs) for _, pairs in parts)])  # windows of the lanes before
        chunks = []
        for kind in range(3):
            same = [(batch, int(n)) for (some, _), n in zip(parts, before, strict=False) for batch in some
                    if batch.kind == kind]  # fmt: skip
            if same:
                chunks.append(joined(*zip(*same, strict=True)))
        pairs = [pair for _, some in parts for pair in some]
        if not pairs:
            return TrainBatch(chunks)
        frames, mel = images(pairs)
        if config.colour_db:
            colours = [np.random.default_rng([config.seed, number, lane, 1]).uniform(-1, 1, (len(some), 2))
                       for lane, (_, some) in zip(self.lanes, parts, strict=True)]  # fmt: skip
            mel = coloured(mel, config.colour_db * torch.from_numpy(np.concatenate(colours).astype(np.float32)))
        lots = np.random.default_rng([config.seed, number, config.lanes]).gumbel(size=(2, config.pairs, config.pairs))
        return TrainBatch(chunks, frames, mel, torch.from_numpy(lots.astype(np.float32)))

    def _notes(self, table: ChunkTable, rng: np.random.Generator) -> Batch:
        config, own = self.config, None
        n = config.chunks[table.kind] // config.lanes
        rows = np.searchsorted(self.chances[table.kind], rng.random(n))
        if self.own is not None and table.kind != tk.ATTACK:
            own = np.where(rng.random(len(rows)) < config.own_share, 1, 0)[:, None] * self.own[table.kind][rows]
        return gather(table, rows, rng, config.previous_noise_levels, self.width, own)


def _chances(table: ChunkTable) -> np.ndarray:
    """Cumulative chance of each row: of a voice by the root of its notes, and late chunks of long notes less often.

    A drum key has a tenth of a program's notes, all of one pitch: it needs less, but more than a tenth.
    """
    weight = 1.0 / (1 + table.index)
    n_voices = int(table.voice.max()) + 1
    total = np.bincount(table.voice, weights=weight, minlength=n_voices)
    n_notes = np.bincount(table.voice[np.unique(table.note, return_index=True)[1]], minlength=n_voices)
    chance = np.cumsum(np.sqrt(n_notes)[table.voice] * weight / total[table.voice])
    chances: np.ndarray = chance / chance[-1]
    return chances


def pair_stream(folder: Path, lane: int, lanes: int, seed: int, skip: int = 0, *,
                with_sound: bool = False) -> Iterator[Pair]:  # fmt: skip
    """The pairs of one lane, over and over, shards and pairs in a new order each time; the first ``skip`` left out.

    Each time round the shards are dealt out anew among the lanes. Raises: DataError if there are fewer shards than
    lanes, or if one is damaged.
    """
    import webdataset

    shards = shards_of(folder)
    if len(shards) < lanes:
        raise DataError(f"{folder}: {len(shards)} shards for {lanes} lanes; set batch.lanes to {len(shards)} or less")
    for turn in count():
        order = np.random.default_rng([seed, turn]).permutation(len(shards))[lane::lanes]
        urls = [str(shards[i]) for i in order]
        source = webdataset.WebDataset(urls, shardshuffle=False, nodesplitter=lambda u: u, workersplitter=lambda u: u,
                                       empty_check=False)  # fmt: skip
        for sample in source.shuffle(_SHUFFLED, rng=Random(f"{seed} {turn} {lane}")):
            if skip:
                skip -= 1
                continue
            yield from_bytes(sample["__key__"], sample[SUFFIX], sample.get(SOUND_SUFFIX) if with_sound else None)


def images(pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """x_m [P, channels, T, N] and x_a [P, Ta, M] of pairs."""
    frames = torch.from_numpy(np.stack([encode_frames(pair.notes, 0.0) for pair in pairs]))
    return frames, torch.from_numpy(np.stack([pair.mel for pair in pairs]).astype(np.float32))


def coloured(mel: torch.Tensor, db: torch.Tensor) -> torch.Tensor:
    """Images x_a [P, Ta, M] of other gain and tilt; db [P, 2]: of all bands, and of the highest against the middle."""
    tilt = torch.linspace(-1, 1, mel.shape[2])
    return (mel + db[:, :1, None] + db[:, 1:, None] * tilt).clamp(min=MEL_FLOOR_DB)


def pair_chunks(
    pairs: list[Pair], n: int, noise_levels: float, width: int, rng: np.random.Generator, *, has_context: bool = True
) -> list[Batch]:
    """Up to n chunks of each kind, drawn from the measured notes of pairs, each with the place of its context, if
    they have any."""
    notes = [note for pair in pairs for note in notes_of(pair)]
    owners = np.repeat(np.arange(len(pairs)), [len(pair.tokens) for pair in pairs])
    starts = np.array([pair.notes["start"][number] for pair in pairs for number in sorted(pair.tokens)])
    batches = []
    for table in chunk_tables(notes) if notes else []:
        if not len(table.note):
            continue
        chance = 1.0 / (1 + table.index)
        rows = rng.choice(len(table.note), min(n, len(table.note)), replace=False, p=chance / chance.sum())
        moments = starts[table.note[rows]] + table.age[rows] - tk.lead_seconds(table.kind, table.index[rows])
        tokens = np.array([last_token(m) for m in moments])
        is_inside = (tokens >= 0) & (tokens < WINDOW_TOKENS) & has_context
        place = np.where(is_inside, 1 + owners[table.note[rows]] * WINDOW_TOKENS + tokens, 0)
        batches.append(gather(table, rows, rng, noise_levels, width, place=place))
    return batches
