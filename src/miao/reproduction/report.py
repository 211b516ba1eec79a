"""The tables as Markdown for people and JSON for programs."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from miao.errors import DataError
from miao.evaluation.benchmarks import Piece
from miao.evaluation.evaluate import Run
from miao.evaluation.tables import number
from miao.files import Json, write_json, write_text
from miao.reproduction.cells import Compared, Entry, compare
from miao.reproduction.paper import DIFFERENCES, FIGURE_NAMES, NEAREST, TABLE1, Row, printed
from miao.reproduction.runs import Recipe

HELD_OUT_TITLES = {
    "error_db/all": "level error dB ↓", "error_db/no_context": "the same without context ↓",
    "accuracy/token": "tokens hit ↑", "recall@1": "recall@1 ↑", "recall@10": "recall@10 ↑",
    "accuracy/match": "matching ↑", "accuracy/mined": "matching, wrong pairs ↑",
}  # fmt: skip
INTERVALS = """\
Means over pieces with 95 % bootstrap intervals in brackets (of the Fréchet distance by a jackknife over pieces); "±" is
half of the spread over seeds."""


def parts_of(run: Run) -> list[tuple[str, list[Piece]]]:
    """What gets a table of its own: all pieces, and the groups that are like a data set of the paper."""
    pieces = list(run.benchmark.pieces)
    groups = [group for group in dict.fromkeys(p.group for p in pieces) if group in NEAREST]
    parts = [(run.benchmark.name, pieces)]
    if len({p.group for p in pieces}) > 1:
        parts += [(f"{run.benchmark.name}, {g}", [p for p in pieces if p.group == g]) for g in groups]
    return parts


def evaluation(run: Run, entries: list[Entry], *, of_systems: bool) -> tuple[list[str], Json]:
    """The tables of one benchmark, as lines and as data; of systems, of groups too, beside the paper's Table 1."""
    lines: list[str] = []
    data = {}
    for name, pieces in parts_of(run) if of_systems else parts_of(run)[:1]:
        nearest = NEAREST.get(name.rpartition(", ")[2], "")
        compared = compare(run, entries, pieces)
        minutes = sum(piece.seconds for piece in pieces) / 60
        lines += ["", f"## {name}: {len(pieces)} pieces, {minutes:.1f} minutes", ""]
        named = _with_paper(entries, nearest) if of_systems else entries
        lines += [*table(named, compared), "", *in_words(entries, compared, name)]
        data[name] = {"n_pieces": len(pieces), "minutes": minutes, "paper": nearest,
                      "metrics": {c.metric.key: asdict(c) for c in compared}}  # fmt: skip
    return lines, data


def _with_paper(entries: Iterable[Entry], nearest: str) -> list[Entry]:
    """Entries with the paper's figures of the data set that is most like the benchmark."""
    known = TABLE1.get(nearest, {})
    found = []
    for entry in entries:
        kind = entry.title.partition(":")[0]
        text = f"{nearest}: {printed(known[kind])}" if kind in known else ""
        found.append(Entry(entry.title, entry.systems, text, entry.plays, entry.is_ours))
    return found


def table(entries: list[Entry], compared: list[Compared]) -> list[str]:
    """One row an entry; a dagger where it is ours and not the best."""
    if not compared:
        return ["Nothing was measured."]
    paper = f"paper: {' / '.join(FIGURE_NAMES)}"
    lines = ["| | " + " | ".join(c.title for c in compared) + f" | n | {paper} |", "|---" * (len(compared) + 3) + "|"]
    for entry in entries:
        cells, counts = [], set()
        for one in compared:
            cell = one.cells.get(entry.title)
            if cell is None:
                cells.append("-")
                continue
            counts.add(cell.n)
            dagger = " †" if any(b.ours == entry.title for b in one.behind) else ""
            cells.append(text(cell.value, cell.low, cell.high, cell.spread) + dagger)
        n = "-".join(str(x) for x in sorted({min(counts), max(counts)})) if counts else "0"
        lines.append(f"| {entry.title} | {' | '.join(cells)} | {n} | {entry.paper} |")
    return lines


def text(value: float, low: float | None, high: float | None, spread: float | None) -> str:
    """A number with its interval and its spread over seeds."""
    interval = "" if low is None or high is None or low == high else f" [{number(low)}, {number(high)}]"
    return number(value) + interval + ("" if spread is None else f" ± {number(spread)}")


def in_words(entries: list[Entry], compared: list[Compared], where: str) -> list[str]:
    """Each cell of ours that is not the best, and each metric that does not measure quality here."""
    lines = []
    for one in compared:
        for behind in one.behind:
            value, low, high = behind.worse_by
            sure = "no interval" if low is None or high is None or low == high else f"[{number(low)}, {number(high)}]"
            if low is not None and low <= 0:
                sure += ", no clear difference"
            lines.append(f"- † {where}, {one.title}: {behind.ours} is behind {behind.best}, by {number(value)} "
                         f"({sure})")  # fmt: skip
    if not lines and any(entry.is_ours for entry in entries):
        lines = [f"- {where}: no cell of ours is behind another that plays the music."]
    lines += [f"- set aside here, {one.title}: {one.fault}" for one in compared if one.fault]
    return lines


def held_out_table(recipe: Recipe, rows: list[Row]) -> tuple[list[str], Json]:
    """What was measured on held-out pairs, by row; mean over seeds."""
    found = {row.name: [recipe.held_out(row, seed) for seed in range(recipe.seeds)] for row in rows}
    n = min(one["n"] for some in found.values() for one in some)
    keys = [key for key in HELD_OUT_TITLES if any(key in some[0]["values"] for some in found.values())]
    lines = ["", f"## {n} held-out pairs", "", "| | " + " | ".join(HELD_OUT_TITLES[k] for k in keys) + " |",
             "|---" * (len(keys) + 1) + "|"]  # fmt: skip
    data: Json = {}
    for name, some in found.items():
        cells = []
        for key in keys:
            if key not in some[0]["values"]:
                cells.append("-")
                continue
            values = [one["values"][key] for one in some]
            value, low, high = (sum(column) / len(values) for column in zip(*values, strict=True))
            seeds = [v for v, _, _ in values]
            spread = (max(seeds) - min(seeds)) / 2 if len(seeds) > 1 else None
            cells.append(text(value, low, high, spread))
            data.setdefault(name, {})[key] = {"value": value, "low": low, "high": high, "seeds": seeds}
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines, data


def training_lines(recipe: Recipe) -> list[str]:
    """How the rows were trained, in words."""
    return [f"Each row: preset `{recipe.preset}`, {recipe.steps} steps of {recipe.batch} pairs unless it says "
            f"otherwise, {recipe.seeds} seed{'s' * (recipe.seeds != 1)}, the same pairs in the same order; exported as "
            "a bank that hears what is played around a note, and played through the renderer."]  # fmt: skip


def write(folder: Path, name: str, title: str, lines: list[str], data: Json, missing: list[str]) -> str:
    """reproduce-NAME.md and .json in a folder; gives the text."""
    whole = [f"# {title}", "", INTERVALS, "", DIFFERENCES, *lines, "", "## Left out", ""]
    whole += [f"- {what}" for what in missing] or ["Nothing."]
    content = "\n".join(whole) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"reproduce-{name}.json", {"table": name, **data, "missing": missing}, DataError)
    write_text(folder / f"reproduce-{name}.md", content, DataError)
    return content
