"""What an evaluation found, as data: means with intervals, the order that each metric puts the systems in, differences.

Means are over pieces, with 95 % intervals from 2000 bootstrap samples of pieces. A metric that claims to measure
quality has to put the reference first and every floor behind everything that plays the music. One that does not is
named and set aside: its numbers are still printed, but they say nothing about quality. Distances between embeddings are
one number a system over all windows of all pieces, and one for each group; beside them stands their floor, the distance
between the two halves of the reference (every other piece).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from miao.arrays import Reals
from miao.evaluation.evaluate import Run
from miao.evaluation.measure import (
    ALIGNMENT,
    FEWEST_EMBEDDINGS,
    HIGHER,
    PEAK,
    Metric,
    piece_metrics,
    set_metrics,
)
from miao.files import Json

N_RESAMPLES = 2000
CONFIDENCE = 0.95
ROUNDING = 1e-3
FEWEST_FOR_FACTS = 8  # pieces, from which on a metric is looked at as a function of a fact

Played = dict[str, list[Json]]
"""The records of each system that hold values."""


@dataclass(frozen=True)
class Mean:
    """A mean over pieces with its bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def mean_of(values: Iterable[float], seed: int = 0) -> Mean:
    """The mean of what is finite, and the bounds within which it would lie for other pieces of the kind."""
    x = np.array([v for v in values if np.isfinite(v)])
    if not len(x):
        return Mean(float("nan"), float("nan"), float("nan"), 0)
    draws = np.random.default_rng(seed).integers(0, len(x), (N_RESAMPLES, len(x)))
    low, high = np.quantile(x[draws].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Mean(float(x.mean()), float(low), float(high), len(x))


def verdict(better: str, means: dict[str, float], floors: set[str]) -> str:
    """What is wrong with the order that a metric puts the systems in; "" if nothing is, or if it claims none.

    A thousandth of what lies between the best and the worst does not count: a sampler that plays what it has made the
    benchmark with is the reference, but for the rounding of its files.
    """
    if not better or "reference" not in means:
        return ""
    cost = {name: -m if better == HIGHER else m for name, m in means.items()}
    rounding = ROUNDING * (max(cost.values()) - min(cost.values()))
    before = [n for n, c in cost.items() if n not in floors and c < cost["reference"] - rounding]
    wrong = [f"{name} before the reference" for name in before]
    for floor in sorted(floors & cost.keys()):
        behind = [name for name, c in cost.items() if name not in floors and c >= cost[floor]]
        if behind:
            wrong.append(f"{floor} before {', '.join(behind)}")
    return "puts " + "; ".join(wrong) if wrong else ""


def summary(run: Run, missing: list[str]) -> Json:
    """The whole report as plain data."""
    records = {s.name: [run.record(s, piece) for piece in run.benchmark.pieces] for s in run.systems}
    played: Played = {name: [r for r in rows if r and "values" in r] for name, rows in records.items()}
    floors = {s.name for s in run.systems if s.is_floor}
    of_pieces = piece_metrics(run.listeners.names())
    metrics = [m for m in (metric_summary(metric, played, floors) for metric in of_pieces) if m]
    distances = embedding_distances(run, played, floors)
    metrics += distances.metrics
    groups = group_means(played, of_pieces)
    for group, found in distances.groups.items():
        groups.setdefault(group, {}).update(found)
    manifest = run.benchmark.manifest
    return {
        "benchmark": {
            "name": manifest["name"], "version": manifest["version"], "n_pieces": len(run.benchmark.pieces),
            "minutes": minutes(run), "settings": manifest["settings"], "made_of": manifest["made_of"],
            "skipped": manifest["skipped"],
            "notes_from": {p.group: p.notes_from for p in run.benchmark.pieces},
        },
        "settings": {
            "transcriber": run.listeners.transcriber and "basic-pitch 0.4.0", "embedders": run.listeners.names(),
            "alignment": ALIGNMENT, "transcribed_at_peak": PEAK, "resamples": N_RESAMPLES, "confidence": CONFIDENCE,
        },
        "missing": [*missing, *distances.missing],
        "systems": [system_summary(s.name, s.checksum, s.is_floor, records[s.name]) for s in run.systems],
        "metrics": metrics,
        "groups": groups,
        "differences": differences(played, [m for m in metrics if m["better"] and not m["fault"]]),
        "facts": fact_slopes(played, of_pieces) + distances.facts,
    }  # fmt: skip


def minutes(run: Run) -> dict[str, float]:
    """How much of each group was evaluated."""
    found: dict[str, float] = defaultdict(float)
    for piece in run.benchmark.pieces:
        found[piece.group] += piece.seconds / 60
    return {group: round(m, 2) for group, m in found.items()}


def metric_summary(metric: Metric, played: Played, floors: set[str]) -> Json | None:
    """One metric of all systems, over the pieces on which it exists; None if there are none."""
    means = {name: mean_of(values_of(rows, metric.key).values()) for name, rows in played.items()}
    means = {name: m for name, m in means.items() if m.n}
    if not means:
        return None
    fault = verdict(metric.better, {name: m.mean for name, m in means.items()}, floors)
    return {**asdict(metric), "systems": {name: asdict(m) for name, m in means.items()}, "fault": fault}


def values_of(records: list[Json], key: str) -> dict[str, float]:
    """The finite values of a metric, by piece."""
    values = {r["piece"]: r["values"][key] for r in records if r["values"].get(key) is not None}
    return {piece: v for piece, v in values.items() if np.isfinite(v)}


@dataclass(frozen=True)
class Distances:
    """What lies between each system's embeddings and the reference's."""

    metrics: list[Json]  # over all pieces, as metric_summary
    groups: Json  # group, metric, system: [distance, frames]
    facts: list[Json]  # of the thirds of the pieces by each fact, as `fact_slopes` but without a correlation
    missing: list[str]  # what has too few frames


def embedding_distances(run: Run, played: Played, floors: set[str]) -> Distances:
    """The distances of each embedder between each system and the reference on the same pieces, with their floor."""
    metrics: list[Json] = []
    by_group: Json = {}
    facts: list[Json] = []
    missing = []
    groups: dict[str, set[str]] = defaultdict(set)
    for piece in run.benchmark.pieces:
        groups[piece.group].add(piece.name)
    for embedder in run.listeners.names():
        sets = embeddings_of(run, played, embedder)
        reference = list(sets["reference"].values())
        halves = [np.concatenate(reference[first::2] or [np.zeros((0, 1))]) for first in (0, 1)]
        for where, pieces in [("", set().union(*groups.values())), *(groups.items() if len(groups) > 1 else ())]:
            pairs = embedding_pairs(sets, pieces)
            if "reference" not in pairs:
                missing.append(f"no distances of {embedder}{where and ' for ' + where}: fewer than {FEWEST_EMBEDDINGS} "
                               "frames")  # fmt: skip
                continue
            for metric, distance in set_metrics(embedder):
                if where and metric.key.startswith("fad_infinity"):
                    continue  # a group has too few frames to extrapolate from
                means = {name: distance(*pair) for name, pair in pairs.items()}
                if where:
                    found = {name: [mean, len(pairs[name][1])] for name, mean in means.items()}
                    by_group.setdefault(where, {})[metric.key] = found
                    continue
                floor = distance(*halves) if min(map(len, halves)) >= FEWEST_EMBEDDINGS else None
                cells = {name: {"mean": mean, "low": None, "high": None, "n": len(pairs[name][1])}
                         for name, mean in means.items()}  # fmt: skip
                metrics.append({**asdict(metric), "systems": cells, "fault": verdict(metric.better, means, floors),
                                "halves": floor})  # fmt: skip
        facts += distance_facts(run, sets, embedder)
    return Distances(metrics, by_group, facts, missing)


def distance_facts(run: Run, sets: dict[str, dict[str, Reals]], embedder: str) -> list[Json]:
    """The distances in the lowest, middle and highest third of the pieces by each fact, where there are enough."""
    found = []
    for fact in sorted({fact for piece in run.benchmark.pieces for fact in piece.facts} - {"gain_db"}):
        pieces = sorted((p for p in run.benchmark.pieces if fact in p.facts), key=lambda p: p.facts[fact])
        thirds = [[pieces[i] for i in rows] for rows in np.array_split(np.arange(len(pieces)), 3)]
        pairs = [embedding_pairs(sets, {p.name for p in third}) for third in thirds]
        for metric, distance in set_metrics(embedder):
            if metric.key.startswith("fad_infinity") or len(pieces) < FEWEST_FOR_FACTS:
                continue
            for name in (n for n in sets if all(n in third for third in pairs)):
                found.append({"fact": fact, "key": metric.key, "system": name, "n": len(pieces),
                              "rank_correlation": None,
                              "thirds": [[float(np.mean([p.facts[fact] for p in third])), distance(*pair[name])]
                                         for third, pair in zip(thirds, pairs, strict=True)]})  # fmt: skip
    return found


def embeddings_of(run: Run, played: Played, embedder: str) -> dict[str, dict[str, Reals]]:
    """What an embedder made of each system's pieces."""
    pieces = {piece.name: piece for piece in run.benchmark.pieces}
    systems = {s.name: s for s in run.systems}
    sets: dict[str, dict[str, Reals]] = {}
    for name, rows in played.items():
        paths = {r["piece"]: run.record_path(systems[name], pieces[r["piece"]]).with_suffix(".npz") for r in rows}
        sets[name] = {piece: np.load(path)[f"embedding/{embedder}"] for piece, path in paths.items()}
    return sets


def embedding_pairs(sets: dict[str, dict[str, Reals]], pieces: set[str]) -> dict[str, tuple[Reals, Reals]]:
    """The reference's and each system's embeddings of those of the pieces that both play, where there are enough."""
    theirs, pairs = sets["reference"], {}
    for name, ours in sets.items():
        common = [piece for piece in ours if piece in theirs and piece in pieces]
        if sum(len(ours[piece]) for piece in common) >= FEWEST_EMBEDDINGS:
            pairs[name] = (np.concatenate([theirs[p] for p in common]), np.concatenate([ours[p] for p in common]))
    return pairs


def system_summary(name: str, checksum: str, is_floor: bool, records: list[Json | None]) -> Json:
    """What a system is, how fast it played, and what it could not play."""
    played = [r for r in records if r and "values" in r]
    failures: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record and "failure" in record:
            failures[record["failure"]].append(record["piece"])
    taken = sum(r["play_seconds"] for r in played)
    return {
        "name": name, "checksum": checksum, "is_floor": is_floor, "n_pieces": len(played),
        "seconds": sum(r["seconds"] for r in played), "play_seconds": taken, "failures": dict(failures),
    }  # fmt: skip


def group_means(played: Played, metrics: Iterable[Metric]) -> Json:
    """Means by group, metric and system: [mean, n]."""
    found: Json = {}
    for name, rows in played.items():
        for metric in metrics:
            values = values_of(rows, metric.key)
            for record in rows:
                if record["piece"] in values:
                    in_group = found.setdefault(record["group"], {}).setdefault(metric.key, {})
                    in_group.setdefault(name, []).append(values[record["piece"]])
    return {
        group: {key: {name: [float(np.mean(v)), len(v)] for name, v in systems.items()}
                for key, systems in by_metric.items()}
        for group, by_metric in found.items()
    }  # fmt: skip


def differences(played: Played, metrics: list[Json]) -> list[Json]:
    """How much worse each of our systems is than each sampler, on the pieces both play; below 0 it is better.

    Of all pieces (group ""), then of each group where there are several.
    """
    groups = sorted({record["group"] for rows in played.values() for record in rows})
    found = []
    for group in ["", *(groups if len(groups) > 1 else ())]:
        heard = {name: [r for r in rows if group in ("", r["group"])] for name, rows in played.items()}
        for ours in (name for name in played if name.startswith("miao")):
            for theirs in (name for name in played if name.startswith("fluidsynth")):
                for metric in metrics:
                    a, b = (values_of(heard[name], metric["key"]) for name in (ours, theirs))
                    sign = -1 if metric["better"] == HIGHER else 1
                    mean = mean_of(sign * (a[piece] - b[piece]) for piece in a if piece in b)
                    if mean.n:
                        found.append({"key": metric["key"], "group": group, "ours": ours, "theirs": theirs,
                                      "worse_by": asdict(mean)})  # fmt: skip
    return found


def fact_slopes(played: Played, metrics: Iterable[Metric]) -> list[Json]:
    """Each metric as a function of each fact about the pieces: rank correlation, and the means of its thirds."""
    found = []
    facts = sorted({fact for rows in played.values() for r in rows for fact in r["facts"] if fact != "gain_db"})
    for fact in facts:
        for metric in metrics:
            for name, rows in played.items():
                values = values_of(rows, metric.key)
                pairs = np.array([(r["facts"][fact], values[r["piece"]]) for r in rows
                                  if fact in r["facts"] and r["piece"] in values])  # fmt: skip
                if len(pairs) < FEWEST_FOR_FACTS:
                    continue
                thirds = np.array_split(pairs[np.argsort(pairs[:, 0], kind="stable")], 3)
                found.append({"fact": fact, "key": metric.key, "system": name, "n": len(pairs),
                              "rank_correlation": rank_correlation(pairs[:, 0], pairs[:, 1]),
                              "thirds": [[float(t[:, 0].mean()), float(t[:, 1].mean())] for t in thirds]})  # fmt: skip
    return found


def rank_correlation(x: Reals, y: Reals) -> float:
    """Spearman's, -1 to 1; 0 if one of them never changes."""
    from scipy.stats import rankdata

    a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (x, y))
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum() / scale) if scale else 0.0
