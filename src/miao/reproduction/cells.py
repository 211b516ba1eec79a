"""What an evaluation says of systems, or of rows with several trainings, as numbers with intervals.

A number of pieces has a 95 % interval from 2000 bootstrap samples of pieces. The Fréchet distance is one number of all
pieces together; a bootstrap sample, in which pieces are there twice, would make it larger than it is, so that its
interval is a jackknife's, which leaves out a tenth of the pieces at a time. Where a row was trained with several seeds,
its number is their mean, the interval that of the mean over the same pieces, and the spread half of what lies between
the highest and the lowest.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from miao.arrays import Doubles, Floats
from miao.evaluation.benchmarks import Piece
from miao.evaluation.evaluate import Run
from miao.evaluation.measure import HIGHER, LOWER, Metric, piece_metrics, set_metrics
from miao.evaluation.report import Played, embedding_pairs, embeddings_of, mean_of, values_of, verdict
from miao.evaluation.systems import (
    EncodedSystem,
    FluidSynthSystem,
    InverterSystem,
    MiaoSystem,
    ReferenceSystem,
    System,
)
from miao.reproduction.paper import Row
from miao.reproduction.runs import Recipe

PIECE_KEYS = ("mt3_full", "sc", "pce", "sc_error", "pce_error", "log_mel_db", "stem_f1_same_heard")
SHORT = {
    "mt3_full": "MT3 T. (full)", "sc": "SC", "pce": "PCE", "sc_error": "SC, difference",
    "pce_error": "PCE, difference", "log_mel_db": "log-mel error dB",
    "stem_f1_same_heard": "F1 heard as in the reference",
}  # fmt: skip
CEILINGS = (ReferenceSystem, EncodedSystem, InverterSystem)  # they look at what they are to play
_LEFT_OUT = 10  # parts that the jackknife leaves out, one at a time


@dataclass(frozen=True)
class Entry:
    """What gets a row in a table: a system, or the banks of several seeds."""

    title: str
    systems: tuple[str, ...]  # names
    paper: str = ""
    plays: bool = True  # the music, on its own: neither a floor nor a ceiling
    is_ours: bool = False  # whether it is to be told where it is not the best


def bank_entries(recipe: Recipe, rows: list[Row], *, first_is_ours: bool) -> tuple[list[System], list[Entry]]:
    """The banks of rows as systems, and the entries of a report: each row, and the reference."""
    systems: dict[str, System] = {}
    entries = []
    for number, row in enumerate(rows):
        banks = [MiaoSystem(str(recipe.bank(row, seed))) for seed in range(recipe.seeds)]
        systems |= {bank.name: bank for bank in banks}
        names = tuple(bank.name for bank in banks)
        entries.append(Entry(row.name, names, row.paper, is_ours=first_is_ours and number == 0))
    entries.append(Entry("reference", ("reference",), plays=False))
    return list(systems.values()), entries


def system_entries(run: Run) -> list[Entry]:
    """The systems of a run as the entries of a report, the reference last, beside the paper's Table 1.

    What has made the reference, or looks at it, is not what miao has to stand up to.
    """
    source = run.benchmark.manifest["settings"].get("soundfont_checksum")
    entries = []
    for system in (*run.systems[1:], run.systems[0]):
        made_it = isinstance(system, FluidSynthSystem) and system.checksum == source
        plays = not (system.is_floor or made_it or isinstance(system, CEILINGS))
        title = system.name + " (plays the reference)" * made_it
        entries.append(Entry(title, (system.name,), plays=plays, is_ours=isinstance(system, MiaoSystem)))
    return entries


@dataclass(frozen=True)
class Cell:
    """A number with what is known of how sure it is."""

    value: float
    low: float | None
    high: float | None
    n: int  # pieces
    seeds: tuple[float, ...]

    @property
    def spread(self) -> float | None:
        """Half of what lies between the seeds; None for one."""
        return (max(self.seeds) - min(self.seeds)) / 2 if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Behind:
    """A cell of ours that is not the best of those that play the music."""

    ours: str
    best: str
    key: str
    worse_by: tuple[float, float | None, float | None]  # with its interval, over the pieces that both play


@dataclass(frozen=True)
class Compared:
    """One metric of all entries on some pieces."""

    metric: Metric
    title: str
    cells: dict[str, Cell]  # by the entry's title
    fault: str  # what is wrong with the order it puts the entries in
    behind: tuple[Behind, ...]


@dataclass(frozen=True)
class _Known:
    """One metric of one entry, by seed, and a way to get it for some of the pieces only."""

    seeds: tuple[float, ...]
    by_piece: dict[str, float] | None  # mean over seeds; None for a number of all pieces together
    without: Doubles | None  # [parts] the value without each part of the pieces
    n: int


def compare(run: Run, entries: list[Entry], pieces: list[Piece]) -> list[Compared]:
    """The metrics of the paper and ours on some pieces of a run, those for which there is anything."""
    systems = {system.name: system for system in run.systems}
    names = {piece.name for piece in pieces}
    played: Played = {}
    for name in {name for entry in entries for name in entry.systems}:
        records = [run.record(systems[name], piece) for piece in pieces]
        played[name] = [record for record in records if record and "values" in record]
    floors = {entry.title for entry in entries if any(systems[s].is_floor for s in entry.systems)}
    listed = {metric.key: metric for metric in piece_metrics(run.listeners.names())}
    found = []
    for key in ("mt3_full", *(f"red/{name}" for name in run.listeners.names())):
        found.append((listed[key], {e.title: _of_pieces(played, e, key) for e in entries}))
    for embedder in run.listeners.names():
        metric, distance = set_metrics(embedder)[0]
        sets = embeddings_of(run, played, embedder)
        found.append((metric, {e.title: _of_sets(sets, e, names, distance) for e in entries}))
    for key in PIECE_KEYS[1:]:
        metric = listed[key]
        if key in ("sc", "pce"):
            metric = replace(metric, better=HIGHER)  # as the paper reads them
        found.append((metric, {e.title: _of_pieces(played, e, key) for e in entries}))
    return [_compared(metric, {t: k for t, k in known.items() if k}, entries, floors)
            for metric, known in found if any(known.values())]  # fmt: skip


def _of_pieces(played: Played, entry: Entry, key: str) -> _Known | None:
    values = [values_of(played[name], key) for name in entry.systems]
    common = set.intersection(*(set(v) for v in values))
    if not common:
        return None
    by_piece = {piece: float(np.mean([v[piece] for v in values])) for piece in sorted(common)}
    return _Known(tuple(float(np.mean([v[p] for p in by_piece])) for v in values), by_piece, None, len(by_piece))


def _of_sets(sets: dict[str, dict[str, Floats]], entry: Entry, names: set[str],
             distance: Callable[[Floats, Floats], float]) -> _Known | None:  # fmt: skip
    seeds, without = [], []
    parts = [set(sorted(names)[first::_LEFT_OUT]) for first in range(min(_LEFT_OUT, len(names)))]
    for name in entry.systems:
        some = {"reference": sets["reference"], name: sets[name]}
        pair = embedding_pairs(some, names).get(name)
        if pair is None:
            return None
        seeds.append(distance(*pair))
        rest = [embedding_pairs(some, names - part).get(name) for part in parts] if len(parts) > 1 else []
        without.append([np.nan if pair is None else distance(*pair) for pair in rest])
    return _Known(tuple(seeds), None, np.mean(without, axis=0), len(names))


def _compared(metric: Metric, known: dict[str, _Known], entries: list[Entry], floors: set[str]) -> Compared:
    cells = {title: _cell(k) for title, k in known.items()}
    fault = verdict(metric.better, {title: cell.value for title, cell in cells.items()}, floors)
    sign = -1 if metric.better == HIGHER else 1
    rivals = [e.title for e in entries if e.plays and e.title in cells]
    best = min(rivals, key=lambda title: sign * cells[title].value, default="")
    behind = tuple(
        Behind(e.title, best, metric.key, _difference(known[e.title], known[best], sign))
        for e in entries
        if e.is_ours and e.title in cells and sign * cells[e.title].value > sign * cells[best].value
    )
    return Compared(metric, title_of(metric), cells, fault, behind)


def _cell(known: _Known) -> Cell:
    value = float(np.mean(known.seeds))
    if known.by_piece is not None:
        interval = mean_of(known.by_piece.values())
        return Cell(value, interval.low, interval.high, known.n, known.seeds)
    half = _jackknife(known.without)
    if half is None:
        return Cell(value, None, None, known.n, known.seeds)
    return Cell(value, value - half, value + half, known.n, known.seeds)


def _difference(ours: _Known, theirs: _Known, sign: int) -> tuple[float, float | None, float | None]:
    if ours.by_piece is not None and theirs.by_piece is not None:
        pieces = ours.by_piece.keys() & theirs.by_piece.keys()
        mean = mean_of(sign * (ours.by_piece[p] - theirs.by_piece[p]) for p in sorted(pieces))
        return mean.mean, mean.low, mean.high
    value = sign * float(np.mean(ours.seeds) - np.mean(theirs.seeds))
    half = None if ours.without is None or theirs.without is None else _jackknife(ours.without - theirs.without)
    return (value, None, None) if half is None else (value, value - half, value + half)


def _jackknife(without: Doubles | None) -> float | None:
    """Half of the 95 % interval of a number, by what it is without each part."""
    if without is None or len(without) < 2 or not np.isfinite(without).all():
        return None
    n = len(without)
    return float(1.96 * np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))


def title_of(metric: Metric) -> str:
    """A short name with an arrow to where better is."""
    kind, _, embedder = metric.key.partition("/")
    short = f"{kind.upper()} ({embedder})" if embedder else SHORT[metric.key]
    return short + {LOWER: " ↓", HIGHER: " ↑"}.get(metric.better, "")
