"""The paper's Figure 2: metrics against one setting at a time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from miao.errors import DataError
from miao.files import Json, make_folder, written
from miao.plot import new_figure
from miao.reproduction.cells import Compared
from miao.reproduction.paper import FIGURE2, Row
from miao.reproduction.report import HELD_OUT_TITLES, text
from miao.reproduction.runs import Recipe

HELD_OUT_KEYS = ("recall@1", "error_db/all")
DPI = 110


@dataclass(frozen=True)
class Point:
    """One metric at one value of a setting."""

    value: int
    mean: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]


Panels = dict[str, dict[str, list[Point]]]
"""By metric and sweep, the points in order."""


def sweep_rows(recipe: Recipe, only: Sequence[str] = ()) -> dict[str, dict[int, Row]]:
    """The rows of each sweep whose name holds one of some words."""
    chosen = [s for s in FIGURE2 if not only or any(words.lower() in s.name.lower() for words in only)]
    return {sweep.name: sweep.rows(recipe.default(sweep.key)) for sweep in chosen}


def is_drawn(compared: Compared) -> bool:
    """Whether a metric is one of the figure's."""
    return compared.metric.key.startswith(("red/", "fad/", "log_mel_db"))


def played_panels(sweeps: dict[str, dict[int, Row]], compared: list[Compared]) -> Panels:
    """What was measured of the rows' sound, by entries called as the rows' slugs are."""
    panels: Panels = {}
    for one in filter(is_drawn, compared):
        for name, rows in sweeps.items():
            cells = [(value, one.cells.get(row.slug)) for value, row in rows.items()]
            panels.setdefault(one.title, {})[name] = [
                Point(value, cell.value, cell.low, cell.high, cell.seeds) for value, cell in cells if cell is not None
            ]
    return panels


def held_out_panels(sweeps: dict[str, dict[int, Row]], recipe: Recipe) -> Panels:
    """What was measured on held-out pairs."""
    panels: Panels = {}
    for key in HELD_OUT_KEYS:
        for name, rows in sweeps.items():
            points = []
            for value, row in rows.items():
                seeds = [recipe.held_out(row, seed)["values"] for seed in range(recipe.seeds)]
                if key in seeds[0]:
                    mean, low, high = (sum(x) / len(seeds) for x in zip(*(s[key] for s in seeds), strict=True))
                    points.append(Point(value, mean, low, high, tuple(s[key][0] for s in seeds)))
            panels.setdefault(HELD_OUT_TITLES[key], {})[name] = points
    return panels


def sweep_tables(panels: Panels, defaults: dict[str, int]) -> list[str]:
    """A table for each sweep: metrics against the setting."""
    lines: list[str] = []
    for name in next(iter(panels.values()), {}):
        lines += ["", f"| {name} | {' | '.join(panels)} |", "|---" * (len(panels) + 1) + "|"]
        for value in [point.value for point in next(iter(panels.values()))[name]]:
            cells = []
            for sweeps in panels.values():
                point = next((p for p in sweeps[name] if p.value == value), None)
                spread = (max(point.seeds) - min(point.seeds)) / 2 if point and len(point.seeds) > 1 else None
                cells.append("-" if point is None else text(point.mean, point.low, point.high, spread))
            default = " (default)" if value == defaults[name] else ""
            lines.append(f"| {value}{default} | {' | '.join(cells)} |")
    return lines


def drawn(pictures: dict[str, Panels], defaults: dict[str, int], folder: Path) -> tuple[list[str], Json]:
    """figure2-NAME.png of each, and its tables, as lines and as data."""
    lines: list[str] = []
    found: Json = {}
    for name, panels in pictures.items():
        file = f"figure2-{name.replace(' ', '-')}.png"
        draw(panels, defaults, folder / file)
        lines += ["", f"## {name}", "", f"![{name}]({file})", *sweep_tables(panels, defaults)]
        found[name] = {title: {sweep: [asdict(point) for point in points] for sweep, points in sweeps.items()}
                       for title, sweeps in panels.items()}  # fmt: skip
    return lines, {"defaults": defaults, "pictures": found}


def draw(panels: Panels, defaults: dict[str, int], path: Path) -> None:
    """A picture: metrics below each other, settings side by side; seeds as points, mean and interval. Raises: MiaoError
    if matplotlib is missing."""
    names = list(next(iter(panels.values()), {}))
    figure = new_figure(2.9 * len(names), 2.2 * len(panels))
    grid = figure.subplots(len(panels), len(names), squeeze=False, sharey="row", sharex="col")
    for line, (title, sweeps) in zip(grid, panels.items(), strict=True):
        line[0].set_ylabel(title.removesuffix(" ↓").removesuffix(" ↑"), fontsize=8)
        for axes, name in zip(line, names, strict=True):
            for place, point in enumerate(sweeps[name]):
                axes.plot([place] * len(point.seeds), point.seeds, ".", color="tab:grey", markersize=5)
                face = "tab:blue" if point.value == defaults[name] else "white"
                axes.plot(place, point.mean, "o", color="tab:blue", markerfacecolor=face, markersize=6)
                if point.low is not None:
                    axes.plot([place, place], [point.low, point.high], color="tab:blue", linewidth=1)
            axes.plot([point.mean for point in sweeps[name]], color="tab:blue", linewidth=0.6)
            axes.set_xticks(range(len(sweeps[name])), [str(point.value) for point in sweeps[name]])
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.3)
    for axes, name in zip(grid[-1], names, strict=True):
        axes.set_xlabel(name, fontsize=8)
    make_folder(path.parent, DataError)
    with written(path, DataError) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=DPI)
