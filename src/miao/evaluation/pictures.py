"""The pictures of a report: bars with intervals, metrics over facts, spectrograms side by side."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from miao.errors import DataError
from miao.evaluation.evaluate import Run
from miao.files import Json, written
from miao.plot import new_figure
from miao.sound.spectrum import AUDIBLE_DB, HOP_SAMPLES, SAMPLE_RATE

MAX_ROWS = 6  # of spectrograms
DPI = 110
TITLE_LETTERS = 56  # in a line


def draw_bars(report: Json, folder: Path) -> list[tuple[str, str]]:
    """bars.png: each metric's mean of each system, with its interval."""
    metrics = [m for m in report["metrics"] if m["better"]]
    if not metrics:
        return []
    n_columns = min(3, len(metrics))
    n_rows = -(-len(metrics) // n_columns)
    names = [s["name"] for s in report["systems"] if s["n_pieces"]]
    figure = new_figure(4.4 * n_columns, (0.7 + 0.3 * len(names)) * n_rows)
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(n_rows, n_columns, place + 1)
        for row, name in enumerate(names):
            cell = metric["systems"].get(name)
            if cell is None:
                continue
            axes.barh(row, cell["mean"], color="tab:grey" if metric["fault"] else f"C{row % 10}")
            if cell["low"] is not None:
                axes.plot([cell["low"], cell["high"]], [row, row], color="black", linewidth=1)
        if metric.get("halves") is not None:
            axes.axvline(metric["halves"], color="black", linestyle=":", linewidth=1)
        axes.set_yticks(range(len(names)), names if place % n_columns == 0 else [""] * len(names), fontsize=7)
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelsize=7)
        aside = " (set aside)" if metric["fault"] else ""
        unit = f", {metric['unit']}" if metric["unit"] else ""
        title = textwrap.fill(f"{metric['title']}{unit}, {metric['better']} is better{aside}", TITLE_LETTERS)
        axes.set_title(title, fontsize=7, parse_math=False)
    _save(figure, folder / "bars.png")
    return [("Means and intervals", "bars.png")]


def draw_facts(report: Json, folder: Path) -> list[tuple[str, str]]:
    """One picture for each fact: the metrics of each system in the thirds of the pieces."""
    drawn = []
    metrics = {m["key"]: m for m in report["metrics"] if m["better"] and not m["fault"]}
    for fact in sorted({f["fact"] for f in report["facts"]}):
        keys = [key for key in metrics if any(f["key"] == key and f["fact"] == fact for f in report["facts"])]
        if not keys:
            continue
        n_columns = min(3, len(keys))
        n_rows = -(-len(keys) // n_columns)
        figure = new_figure(4.4 * n_columns, 2.6 * n_rows)
        for place, key in enumerate(keys):
            axes = figure.add_subplot(n_rows, n_columns, place + 1)
            for row in (f for f in report["facts"] if f["fact"] == fact and f["key"] == key):
                axes.plot(*np.array(row["thirds"]).T, marker="o", markersize=3, label=row["system"])
            axes.set_title(textwrap.fill(metrics[key]["title"], TITLE_LETTERS), fontsize=7, parse_math=False)
            axes.set_xlabel(fact, fontsize=7)
            axes.tick_params(labelsize=7)
            if place == 0:
                axes.legend(fontsize=6)
        name = f"by_{fact}.png"
        _save(figure, folder / name)
        drawn.append((f"Metrics over {fact}", name))
    return drawn


def draw_spectrograms(run: Run) -> list[tuple[str, str]]:
    """spectrograms.png: the first piece of each group, a row, as each system plays it, a column."""
    rows: dict[str, dict[str, np.ndarray]] = {}
    for piece in run.benchmark.pieces:
        found = {}
        for system in run.systems:
            path = run.record_path(system, piece).with_suffix(".npz")
            record = run.record(system, piece)
            if record and "values" in record and path.is_file():
                with np.load(path) as arrays:
                    if "picture" in arrays:
                        found[system.name] = arrays["picture"]
        if "reference" in found and len(rows) < MAX_ROWS:
            rows[piece.name] = found
    if not rows:
        return []
    names = [s.name for s in run.systems if any(s.name in found for found in rows.values())]
    figure = new_figure(0.6 + 2.0 * len(names), 0.4 + 1.7 * len(rows))
    grid = figure.subplots(len(rows), len(names), squeeze=False, sharex="row", sharey=True)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(textwrap.fill(name, TITLE_LETTERS // 2), fontsize=8, parse_math=False)
    for line, (piece_name, found) in zip(grid, rows.items(), strict=True):
        top = int(found["reference"].max())
        for axes, name in zip(line, names, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            if name in found:
                seconds = len(found[name]) * HOP_SAMPLES / SAMPLE_RATE
                axes.imshow(found[name].T, origin="lower", aspect="auto", cmap="magma", vmin=top - AUDIBLE_DB,
                            vmax=top, interpolation="nearest", extent=(0, seconds, 0, 1))  # fmt: skip
        line[0].set_ylabel(piece_name[:24], fontsize=7, parse_math=False)
    _save(figure, run.folder / "spectrograms.png")
    return [("Log-mel spectrograms: the first 8 s of the first piece of each group", "spectrograms.png")]


def _save(figure: Any, path: Path) -> None:
    with written(path, DataError) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
