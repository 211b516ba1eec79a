"""Training of what expression/learnt.py runs, with the trainer of the paper's scheme; minutes on one core.

    python -m miao.training.pianists FOLDER_OF_MIDI RUN

FOLDER_OF_MIDI holds performances whose tempo maps follow the player (piano-midi.de). A third of the pieces, by the
checksum of their names, is held out (`performances.is_held_out`). At the end RUN/net.onnx is what learnt.py runs.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miao.arrays import AnyArray, Reals
from miao.bank.frames import CHANNELS, N_PITCHES, WINDOW_FRAMES
from miao.expression.learnt import (
    HOP_QUARTERS,
    N_BEAT_FEATURES,
    N_NOTE_FEATURES,
    TOKENS_A_QUARTER,
    WINDOW_QUARTERS,
    Page,
    Prediction,
    page_of,
    predict_page,
)
from miao.expression.performances import Performed, is_held_out, performed
from miao.expression.rules import Timeline
from miao.nets.model import MidiEncoder, ModelConfig
from miao.training.trainer import TrainConfig, Trainer, under

LEVEL_DB, TEMPO = 4.0, 0.1  # about the standard deviations of pianists; the net predicts in these units
_MOST = 3.0  # of a target, in these units: pauses and grace notes are not to rule


@dataclass(frozen=True)
class BatchConfig:
    """Windows of a step."""

    pairs: int = 8
    lanes: int = 1
    transpose: int = 5  # semitones at the most


@dataclass(frozen=True)
class HeadConfig:
    """What reads the encoder's tokens, for notes and for beats."""

    hidden: int = 48
    dropout: float = 0.2


@dataclass(frozen=True)
class ExpressionRun:
    """Settings of a run."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(encoder_channels=len(CHANNELS), width=48))
    batch: BatchConfig = field(default_factory=BatchConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=900, learning_rate=2e-3, ramp_up_steps=60, average_decay=0.98, checkpoint_every=300
        )
    )
    head: HeadConfig = field(default_factory=HeadConfig)


class Pianist(nn.Module):
    """The encoder forwards and backwards, and a head for notes and one for beats."""

    def __init__(self, run: ExpressionRun) -> None:
        super().__init__()
        width = run.model.width
        self.encoder = MidiEncoder(run.model)
        self.norm = nn.LayerNorm(2 * width)
        self.dropout = run.head.dropout
        self.notes = _head(2 * width + N_NOTE_FEATURES, run.head.hidden, run.head.dropout)
        self.beats = _head(2 * width + N_BEAT_FEATURES, run.head.hidden, run.head.dropout)

    def forward(self, images: Tensor, note_place: Tensor, notes: Tensor, beat_place: Tensor, beats: Tensor
                ) -> tuple[Tensor, Tensor]:  # fmt: skip
        past = self.encoder(images).tokens
        coming = self.encoder(images.flip(2)).tokens.flip(1)
        tokens = self.norm(torch.cat([past, coming], dim=2)).flatten(0, 1)  # [B L, 2 D]
        tokens = F.dropout(tokens, self.dropout, self.training)
        level = self.notes(torch.cat([tokens[note_place], notes], dim=1)).squeeze(1)
        tempo = self.beats(torch.cat([tokens[beat_place], beats], dim=1)).squeeze(1)
        return LEVEL_DB * level, TEMPO * tempo


def _head(n_in: int, hidden: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Linear(n_in, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1))


@dataclass(frozen=True)
class Batch:
    """Windows of pages and what pianists did there."""

    images: Tensor
    note_place: Tensor
    notes: Tensor
    beat_place: Tensor
    beats: Tensor
    level: Tensor  # dB
    tempo: Tensor


class Objective(nn.Module):
    """Squared error of level and tempo, each in its unit."""

    parts = ("model",)

    def __init__(self, run: ExpressionRun) -> None:
        super().__init__()
        self.model = Pianist(run)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        level, tempo = self.model(batch.images, batch.note_place, batch.notes, batch.beat_place, batch.beats)
        losses = {
            "loss/level": F.mse_loss(level / LEVEL_DB, batch.level / LEVEL_DB),
            "loss/tempo": F.mse_loss(tempo / TEMPO, batch.tempo / TEMPO),
        }
        return {**losses, "loss/total": losses["loss/level"] + losses["loss/tempo"]}


class Batches:
    """Windows drawn from pieces, each by the number of its batch."""

    def __init__(self, config: BatchConfig, pages: list[tuple[Page, Performed]], seed: int, first: int) -> None:
        self.config, self.pages, self.seed, self.number = config, pages, seed, first
        lengths = np.array([max(len(page.beats), 32) for page, _ in pages], float)
        self.chance = lengths / lengths.sum()

    def draw(self) -> Batch:
        """The next batch."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, self.number]))
        self.number += 1
        rows = [self._window(random, i) for i in range(self.config.pairs)]
        columns = [np.concatenate(column) for column in list(zip(*rows, strict=True))[1:]]
        images = torch.from_numpy(np.stack([row[0] for row in rows]))
        return Batch(images, *(torch.from_numpy(column) for column in columns))

    def _window(self, random: np.random.Generator, number: int) -> tuple[AnyArray, ...]:
        page, performance = self.pages[int(random.choice(len(self.pages), p=self.chance))]
        latest = max(page.beats[-1] - WINDOW_QUARTERS / 2, 0)
        first = float(np.floor(random.uniform(-HOP_QUARTERS / 2, latest + 1)))
        image = page.image(first)
        shift = int(random.integers(-self.config.transpose, self.config.transpose + 1))
        image = np.roll(image, shift, axis=2)
        tokens = WINDOW_QUARTERS * TOKENS_A_QUARTER
        k = np.flatnonzero((page.quarter >= first) & (page.quarter < first + WINDOW_QUARTERS - 1))
        b = np.flatnonzero((page.beats[:-1] >= first) & (page.beats[:-1] < first + WINDOW_QUARTERS - 1))
        places = [
            number * tokens + np.floor((at - first) * TOKENS_A_QUARTER + 1e-6).astype(np.int64)
            for at in (page.quarter[k], page.beats[:-1][b])
        ]
        level = np.clip(performance.level[page.which[k]], -_MOST * LEVEL_DB, _MOST * LEVEL_DB)
        tempo = np.clip(performance.tempo[b], -_MOST * TEMPO, _MOST * TEMPO)
        return (image, places[0], page.note_features[k], places[1], page.beat_features[b], level.astype(np.float32),
                tempo.astype(np.float32))  # fmt: skip


def load_pages(folder: Path, held_out: bool, limit: int | None = None) -> list[tuple[Page, Performed]]:
    """The pages of the pieces in a folder that are held out, or of the others."""
    paths = [p for p in sorted(folder.rglob("*.mid")) if is_held_out(p.name) == held_out]
    pages = []
    for path in paths[:limit]:
        performance = performed(path)
        timeline = Timeline.of(performance.reading)
        pages.append((page_of(performance.reading, timeline, performance.beats), performance))
    return pages


Net = Callable[..., list[AnyArray]]
"""What `predict_page` calls: the arrays of a page in, what the net says of it out."""


def net_of(model: Pianist) -> Net:
    """The model as `predict_page` calls it."""

    @torch.no_grad()
    def run(*arrays: AnyArray) -> list[AnyArray]:
        return [out.numpy() for out in model(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))]

    return run


def correlations(pages: list[tuple[Page, Performed]], net: Net) -> tuple[float, float]:
    """Mean over pieces of the correlation of level and of tempo with the pianist's."""
    found = []
    for page, performance in pages:
        said: Prediction = predict_page(page, performance.reading.n, net)
        found.append((_correlation(said.level, performance.level), _correlation(said.tempo, performance.tempo)))
    level, tempo = np.array(found).mean(axis=0)
    return float(level), float(tempo)


def _correlation(a: Reals, b: Reals) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 and b.std() > 1e-9 else 0.0


def export(model: Pianist, path: Path) -> None:
    """The model as an ONNX graph."""
    example = (
        torch.zeros(2, len(CHANNELS), WINDOW_FRAMES, N_PITCHES), torch.zeros(3, dtype=torch.int64),
        torch.zeros(3, N_NOTE_FEATURES), torch.zeros(4, dtype=torch.int64), torch.zeros(4, N_BEAT_FEATURES),
    )  # fmt: skip
    axes = [{0: torch.export.Dim(name)} for name in ("windows", "notes", "notes", "beats", "beats")]
    program = torch.onnx.export(
        model.eval(), example, dynamo=True, dynamic_shapes=axes, verbose=False, opset_version=18
    )
    assert program is not None
    program.save(str(path), external_data=False)
    model_proto = onnx.load(str(path))
    # the exporter writes down where in whose files each node was made, which is two fifths of the graph
    graph = model_proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(model_proto, str(path))


def main() -> None:
    """Train, measure on the held-out pieces, export."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    run = ExpressionRun()
    torch.manual_seed(run.train.seed)
    pages, held_out = load_pages(folder, held_out=False), load_pages(folder, held_out=True)
    print(f"{len(pages)} pieces to learn from, {len(held_out)} held out", flush=True)
    objective = Objective(run)

    def batches(lanes: range, first: int) -> Batches:
        return Batches(run.batch, pages, run.train.seed, first)

    trainer = Trainer(run, out, objective, batches)

    def measure(_: Path) -> dict[str, float]:
        model = Pianist(run)
        model.load_state_dict(under("model.", trainer.average))
        level, tempo = correlations(held_out[::4], net_of(model.eval()))
        return {"held-out/level": level, "held-out/tempo": tempo}

    trainer.resume()
    trainer.fit(lambda step, losses, seconds: print(step, losses, f"{seconds:.2f} s", flush=True), measure)
    model = Pianist(run)
    model.load_state_dict(under("model.", trainer.average))
    export(model, out / "net.onnx")
    print("held out: level {:.3f}, tempo {:.3f}".format(*correlations(held_out, net_of(model.eval()))))


if __name__ == "__main__":
    main()
