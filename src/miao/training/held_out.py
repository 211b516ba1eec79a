"""How well a checkpoint does on pairs that it has not seen: retrieval, matching, the levels of audio tokens."""

from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from miao.bank import tokens as tk
from miao.datasets.pairs import Pair, read_shard, shards_of
from miao.nets.model import AudioFeatures, ChunkInputs, Encoding
from miao.training.batches import images, pair_chunks
from miao.training.losses import level_error_db, mined
from miao.training.objective import MINING_TEMPERATURE, Miao, Understanding

_AT_ONCE = 32  # windows


@dataclass(frozen=True)
class _Windows:
    """All windows, seen by both encoders."""

    midi: Encoding
    audio: AudioFeatures
    similarity: Tensor  # [n, n] MIDI with sound, mean cosines


def held_out_pairs(folder: Path, n: int) -> list[Pair]:
    """The first n pairs of a folder of shards. Raises: DataError."""
    return list(islice(chain.from_iterable(map(read_shard, shards_of(folder))), n))


@torch.no_grad()
def measure(model: Miao, understanding: Understanding | None, pairs: list[Pair]) -> dict[str, float]:
    """By name, all on held-out pairs:

    - ``recall@1``, ``recall@10``: share of windows whose partner is the most similar of all n, or one of the ten most
      similar; mean of both directions.
    - ``accuracy/match``: share of right answers of the matching head for each true pair, each MIDI with a wrong sound
      and each sound with a wrong MIDI, drawn among all n by the softmax of similarity as in training;
      ``accuracy/mined`` for the wrong ones alone, ``accuracy/hardest`` for the most similar wrong ones instead.
    - ``error_db/...``: level error of the decoder from true previous tokens, audible cells, by chunk kind;
      ``accuracy/token`` the share of such cells whose level is hit exactly, ``error_db/no_context`` the error over all
      kinds with the encoder's context taken away, ``error_db/all`` with it.
    """
    results = _levels(model, pairs)
    if understanding is None:
        return results
    windows = _seen(model, understanding, pairs)
    n = len(pairs)
    order = [s.argsort(dim=1, descending=True) for s in (windows.similarity, windows.similarity.T)]
    own = torch.arange(n)[:, None]
    for k in (1, 10):
        results[f"recall@{k}"] = float(torch.stack([(o[:, :k] == own).any(dim=1).float().mean() for o in order]).mean())
    every = own[:, 0]
    true = float((_match(understanding, windows, every, every) > 0).float().mean())
    lots = torch.from_numpy(np.random.default_rng(0).gumbel(size=(2, n, n)).astype(np.float32))
    both = windows.similarity, windows.similarity.T
    drawn = [mined(s, every, MINING_TEMPERATURE, lot) for s, lot in zip(both, lots, strict=True)]
    hardest = [torch.where(o[:, 0] == every, o[:, 1], o[:, 0]) for o in order]
    for name, (sounds, notes) in {"mined": drawn, "hardest": hardest}.items():
        wrong = _match(understanding, windows, every, sounds), _match(understanding, windows, notes, every)
        results[f"accuracy/{name}"] = float((torch.cat(wrong) < 0).float().mean())
    return results | {"accuracy/match": (true + 2 * results["accuracy/mined"]) / 3}


def _seen(model: Miao, understanding: Understanding, pairs: list[Pair]) -> _Windows:
    midi, audio, vectors = [], [], []
    for at in range(0, len(pairs), _AT_ONCE):
        frames, mel = images(pairs[at : at + _AT_ONCE])
        midi.append(model.encoder(frames))
        audio.append(understanding.audio.features(mel))
        vectors.append((understanding.embed_midi(midi[-1]).flatten(1), understanding.embed_audio(audio[-1]).flatten(1)))
    a, b = (torch.cat(some) for some in zip(*vectors, strict=True))
    return _Windows(
        Encoding(torch.cat([m.cls for m in midi]), torch.cat([m.tokens for m in midi])),
        AudioFeatures(*(torch.cat([getattr(x, name) for x in audio]) for name in AudioFeatures.__dataclass_fields__)),
        a @ b.T,
    )


def _match(understanding: Understanding, windows: _Windows, midi: Tensor, audio: Tensor) -> Tensor:
    logits = []
    for rows, others in zip(midi.split(_AT_ONCE), audio.split(_AT_ONCE), strict=True):
        some = AudioFeatures(*(getattr(windows.audio, name)[others] for name in AudioFeatures.__dataclass_fields__))
        logits.append(understanding.match_logits(some, Encoding(windows.midi.cls[rows], windows.midi.tokens[rows])))
    return torch.cat(logits)


def _levels(model: Miao, pairs: list[Pair]) -> dict[str, float]:
    sums: dict[str, list[tuple[float, float]]] = {}

    def add(name: str, value: float, weight: float) -> None:
        sums.setdefault(name, []).append((value, weight))

    for at in range(0, len(pairs), _AT_ONCE):
        some, rng = pairs[at : at + _AT_ONCE], np.random.default_rng(at)
        contexts = F.pad(model.encoder(images(some)[0]).context().flatten(0, 1), (0, 0, 1, 0))
        for batch in pair_chunks(some, 512, 0.0, model.config.width, rng):
            weight = torch.where(batch.weight >= 0.2, batch.weight, 0)  # what is heard
            total = float(weight[..., : tk.PITCH_CELL].sum())
            for name, context in (("no_context", batch.inputs.context), ("all", contexts[batch.place])):
                inputs: ChunkInputs = replace(batch.inputs, context=context)
                out = model.decoder(batch.kind, inputs)
                error = float(level_error_db(out, batch.target, weight))
                add(f"error_db/{name}", error, total)
            add(f"error_db/{('attack', 'sustain', 'release')[batch.kind]}", error, total)
            hit = (out.expected().round() == batch.target).float()[..., : tk.PITCH_CELL]
            add("accuracy/token", float((hit * weight[..., : tk.PITCH_CELL]).sum()) / max(total, 1e-9), total)
    return {name: float(np.average([v for v, _ in rows], weights=[w for _, w in rows])) for name, rows in sums.items()}
