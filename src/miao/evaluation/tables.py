"""A report for people: report.md with its tables, report.json and the pictures."""

from collections.abc import Sequence

from miao.errors import DataError
from miao.evaluation.evaluate import Run
from miao.evaluation.pictures import draw_bars, draw_facts, draw_spectrograms
from miao.evaluation.report import summary
from miao.files import Json, write_json, write_text


def write_report(run: Run, missing: list[str]) -> str:
    """report.md, report.json and pictures in the run's folder; gives the text."""
    report = summary(run, missing)
    pictures = [*draw_bars(report, run.folder), *draw_facts(report, run.folder), *draw_spectrograms(run)]
    write_json(run.folder / "report.json", report, DataError)
    text = markdown(report, pictures)
    write_text(run.folder / "report.md", text, DataError)
    return text


def markdown(report: Json, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The report as Markdown; pictures are (title, path)."""
    kept = [m for m in report["metrics"] if m["better"] and not m["fault"]]
    aside = [m for m in report["metrics"] if m["fault"]]
    neither = [m for m in report["metrics"] if not m["better"]]
    names = [s["name"] for s in report["systems"] if s["n_pieces"]]
    lines = [*heading(report), "", "## Quality", ""]
    lines += ["These put the reference first and the floors last.", "", *metric_table(kept, names)]
    if aside:
        lines += ["", "## Set aside", "", "These do not put the reference first and the floors last, so here they do "
                  "not measure quality.", "", *metric_table(aside, names), ""]  # fmt: skip
        lines += [f"- {label(m)}: {m['fault']}" for m in aside]
    if neither:
        lines += ["", "## Descriptions", "", "Neither more nor less is better; the reference says what is right.", "",
                  *metric_table(neither, names)]  # fmt: skip
    lines += [*against_samplers(report), *by_group(report, names), *by_facts(report, names)]
    lines += [line for title, path in pictures for line in ("", f"## {title}", "", f"![{title}]({path})")]
    return "\n".join([*lines, *small_print(report)]) + "\n"


def heading(report: Json) -> list[str]:
    """What was evaluated on what."""
    benchmark = report["benchmark"]
    total = sum(benchmark["minutes"].values())
    played_by = benchmark["settings"].get("soundfont")
    lines = [
        f"# {benchmark['name']}, version {benchmark['version']}",
        "",
        f"{benchmark['n_pieces']} pieces, {total:.1f} minutes: "
        + ", ".join(f"{group} {m:.1f}" for group, m in benchmark["minutes"].items())
        + (f"; played by {played_by} ({benchmark['settings']['soundfont_checksum']})." if played_by else "."),
        "",
        "| system | checksum | pieces | times as fast as it plays |",
        "|---|---|---|---|",
    ]
    for s in report["systems"]:
        speed = f"{s['seconds'] / s['play_seconds']:.1f}" if s["play_seconds"] > 0.01 * max(s["seconds"], 1e-9) else ""
        lines.append(f"| {s['name']} | {s['checksum']} | {s['n_pieces']} | {speed} |")
    return lines


def label(metric: Json) -> str:
    """A metric's title with its unit and an arrow to where better is."""
    arrow = {"lower": " ↓", "higher": " ↑", "": ""}[metric["better"]]
    text: str = metric["title"] + (f", {metric['unit']}" if metric["unit"] else "") + arrow
    return text


def metric_table(metrics: list[Json], names: list[str]) -> list[str]:
    """One row a metric: mean and, in brackets, the interval; n, and that of a system where it is another."""
    if not metrics:
        return ["None."]
    lines = [f"| metric | {' | '.join(names)} | two halves of the reference | n |", "|---|" + "---|" * (len(names) + 2)]
    for metric in metrics:
        n = max(cell["n"] for cell in metric["systems"].values())
        cells = [cell_text(metric["systems"].get(name), n) for name in names]
        halves = metric.get("halves")
        lines.append(f"| {label(metric)} | {' | '.join(cells)} | {'' if halves is None else number(halves)} | {n} |")
    return lines


def cell_text(cell: Json | None, n: int) -> str:
    """A mean with its interval, and its n if that is not n."""
    if cell is None:
        return "-"
    interval = "" if cell["low"] is None else f" [{number(cell['low'])}, {number(cell['high'])}]"
    return number(cell["mean"]) + interval + (f" (n = {cell['n']})" if cell["n"] != n else "")


def number(value: float) -> str:
    """Three digits or more."""
    return f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def against_samplers(report: Json) -> list[str]:
    """Where miao loses to a sampler and where it wins, in words."""
    if not report["differences"]:
        return []
    titles = {m["key"]: label(m) for m in report["metrics"]}
    lines = ["", "## Against samplers", "", "On the pieces that both play; the interval is of the mean difference.", ""]
    for d in report["differences"]:
        by = d["worse_by"]
        if by["low"] > 0:
            word, low, high = "**worse** by", by["low"], by["high"]
        elif by["high"] < 0:
            word, low, high = "better by", -by["high"], -by["low"]
        else:
            word, low, high = "no clear difference, worse by", by["low"], by["high"]
        mean = abs(by["mean"]) if low > 0 else by["mean"]
        where = f", {d['group']} alone" if d["group"] else ""
        lines.append(f"- {d['ours']} against {d['theirs']}{where}, {titles[d['key']]}: {word} {number(mean)} "
                     f"[{number(low)}, {number(high)}] (n = {by['n']})")  # fmt: skip
    return lines


def by_group(report: Json, names: list[str]) -> list[str]:
    """A table for each group of pieces."""
    if len(report["groups"]) < 2:
        return []
    metrics = [m for m in report["metrics"] if m["better"]]
    lines = []
    for group, found in report["groups"].items():
        source = report["benchmark"]["notes_from"][group]
        lines += ["", f"## {group}: {report['benchmark']['minutes'][group]:.1f} minutes, notes from {source}", "",
                  f"| metric | {' | '.join(names)} | n |", "|---|" + "---|" * (len(names) + 1)]  # fmt: skip
        for metric in (m for m in metrics if m["key"] in found):
            cells = [number(found[metric["key"]][s][0]) if s in found[metric["key"]] else "-" for s in names]
            n = max(n for _, n in found[metric["key"]].values())
            title = label(metric) + (" (set aside)" if metric["fault"] else "")
            lines.append(f"| {title} | {' | '.join(cells)} | {n} |")
    return lines


def by_facts(report: Json, names: list[str]) -> list[str]:
    """How metrics go with facts about the pieces, such as roughness."""
    lines: list[str] = []
    titles = {m["key"]: label(m) for m in report["metrics"]}
    for fact in sorted({f["fact"] for f in report["facts"]}):
        rows = [f for f in report["facts"] if f["fact"] == fact]
        lines += ["", f"## By {fact}", "", "Mean in the lowest, middle and highest third of the pieces; rank "
                  "correlation.", "",
                  f"| metric | {' | '.join(names)} | n |", "|---|" + "---|" * (len(names) + 1)]  # fmt: skip
        for key in dict.fromkeys(row["key"] for row in rows):
            cells, n = [], 0
            for name in names:
                row = next((r for r in rows if r["key"] == key and r["system"] == name), None)
                n = max(n, row["n"] if row else 0)
                correlation = row and row["rank_correlation"]
                cells.append("-" if row is None else " / ".join(number(y) for _, y in row["thirds"])
                             + ("" if correlation is None else f" ({correlation:+.2f})"))  # fmt: skip
            lines.append(f"| {titles[key]} | {' | '.join(cells)} | {n} |")
    return lines


def small_print(report: Json) -> list[str]:
    """Settings, origins, and everything that is not in the tables, with the reason."""
    settings, benchmark = report["settings"], report["benchmark"]
    lines = ["", "## Settings", "", f"- {settings['alignment']}"]
    lines.append(f"- means over pieces, {100 * settings['confidence']:.0f} % intervals from {settings['resamples']} "
                 "bootstrap samples of pieces")  # fmt: skip
    lines.append(f"- transcriber: {settings['transcriber'] or 'none'}, stems at a peak of "
                 f"{settings['transcribed_at_peak']}; "
                 f"embedders: {', '.join(settings['embedders']) or 'none'}")  # fmt: skip
    excerpt = benchmark["settings"]
    seconds = excerpt["seconds"]
    lines.append(f"- of each piece at most {seconds:g} s and its tail" if seconds else "- whole pieces")
    lines += [f"- made of {m['name']}: {m['origin']} ({m['licence']})" for m in benchmark["made_of"]]
    left_out = [f"- {what}" for what in report["missing"]]
    left_out += [f"- {s['name']}: {s['reason']}" for s in benchmark["skipped"]]
    for system in report["systems"]:
        for failure, pieces in system["failures"].items():
            which = ", ".join(pieces) if len(pieces) <= 3 else f"{len(pieces)} pieces"
            left_out.append(f"- {system['name']}: {which}: {failure}")
    return [*lines, "", "## Left out", "", *(left_out or ["Nothing."])]
