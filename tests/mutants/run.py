"""Small faults of every kind, a sample drawn by a seed, in a copy of the code: how many do the tests notice?

    make mutants                          the sample of all files; writes docs/mutants.md
    make mutants FILES=sound N=20         some of them, other numbers a file

Each mutant changes one place: an operator, a comparison, a number, a word of logic, an argument, a statement. The tests
of its file (`TESTS`) run in a forked process that has torch and pytest at hand but nothing of miao, and stop at the
first failure. Results are kept in ``.mutants.json``: a mutant that has been judged is not judged again while its file
and its tests are the same. Survivors that no test can notice are listed with the reason in ``reasons.toml``, by file
and change.
"""

import argparse
import ast
import copy
import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".mutants.json"
REASONS = Path(__file__).parent / "reasons.toml"
PAGE = ROOT / "docs" / "mutants.md"
NOT_THE_MUTANT = 70  # the exit of a process that would test another copy
SLOWEST_SECONDS = 60  # of processor time; a mutant that takes longer is noticed, too
_MIDI = "test_score test_midi_rules test_midi_standards test_midi_tracks_and_bytes test_midi_damage_and_text"
_SYNTH = "test_synth_handovers test_player test_engine"
TESTS = {
    "sound/audio.py": "test_audio",
    "sound/chorus.py": "test_chorus",
    "sound/convolution.py": "test_sound_loops test_rooms test_desk_and_room",
    "sound/decay.py": "test_rooms",
    "sound/desk.py": "test_desk_and_room test_player",
    "sound/limiter.py": "test_sound_loops test_loudness_and_limiter",
    "sound/loudness.py": "test_sound_loops test_loudness_and_limiter",
    "sound/quantiser.py": "test_sound_loops test_audio",
    "sound/room.py": "test_desk_and_room test_rooms",
    "sound/rooms.py": "test_rooms",
    "sound/shelf.py": "test_shelf",
    "sound/spectrum.py": "test_spectrum",
    "sound/writer.py": "test_audio",
    "midi/channel.py": f"{_MIDI} test_envelope",
    "midi/events.py": _MIDI,
    "midi/exclusive.py": f"test_midi_tables {_MIDI}",
    "midi/file.py": _MIDI,
    "midi/formats.py": _MIDI,
    "midi/effects.py": f"test_midi_tables {_MIDI}",
    "midi/gs.py": f"test_midi_tables {_MIDI}",
    "midi/xg.py": f"test_midi_tables {_MIDI}",
    "midi/general_midi.py": f"test_midi_tables {_MIDI}",
    "midi/keys.py": f"{_MIDI} test_midi_properties",
    "midi/module.py": _MIDI,
    "midi/notes.py": _MIDI,
    "midi/performance.py": _MIDI,
    "midi/repair.py": _MIDI,
    "midi/score.py": "test_score test_engine",
    "midi/text.py": f"test_midi_properties {_MIDI}",
    "midi/told.py": _MIDI,
    "midi/writing.py": "test_score test_midi_tracks_and_bytes",
    "synth/arrangement.py": "test_arrangement",
    "synth/band_noise.py": "test_oscillators",
    "synth/brightness.py": "test_brightness",
    "synth/chunks.py": _SYNTH,
    "synth/course.py": f"test_course {_SYNTH}",
    "synth/ear.py": f"test_ear {_SYNTH}",
    "synth/envelope.py": f"test_envelope {_SYNTH}",
    "synth/many.py": "test_many",
    "synth/mastering.py": "test_synthesizer",
    "synth/journal.py": "test_many",
    "synth/note.py": f"{_SYNTH} test_lasting",
    "synth/oscillators.py": "test_oscillators",
    "synth/lots.py": _SYNTH,
    "synth/parts.py": f"{_SYNTH} test_midi_rendering",
    "synth/player.py": f"{_SYNTH} test_live",
    "synth/rendering.py": "test_midi_rendering test_synthesizer",
    "synth/running.py": "test_running test_arrangement",
    "synth/settings.py": "test_settings test_synthesizer",
    "synth/sources.py": "test_running test_arrangement",
    "synth/stealing.py": "test_stealing",
    "synth/stems.py": _SYNTH,
    "synth/synthesizer.py": "test_synthesizer test_midi_rendering",
    "bank/additions.py": "test_variations test_openings test_rises",
    "bank/arrays.py": "test_learn_music test_damaged_banks",
    "bank/bank.py": "test_sides test_let_go test_learnt_kits test_variations",
    "bank/defaults.py": "test_sides test_variations",
    "bank/drums.py": "test_by_ear",
    "bank/folder.py": "test_compiled_decoder test_damaged_banks",
    "bank/frames.py": "test_frames test_soundfont",
    "bank/graph.py": "test_compiled_decoder",
    "bank/key_gains.py": "test_taught test_default_voices",
    "bank/key_levels.py": "test_key_levels",
    "bank/key_rows.py": "test_sides test_key_levels test_damaged_banks",
    "bank/kits.py": "test_kits test_variations",
    "bank/lasting.py": "test_lasting test_sides",
    "bank/learnt_voice.py": "test_learn_music test_voices test_damaged_banks",
    "bank/level_shift.py": "test_learn_music test_learnt_kits",
    "bank/matching.py": "test_matching",
    "bank/nets.py": "test_compiled_decoder test_training",
    "bank/openings.py": "test_taught test_openings",
    "bank/own_kit.py": "test_learnt_kits",
    "bank/partials.py": "test_measuring test_sides test_voices",
    "bank/recorded_notes.py": "test_learn_music",
    "bank/rises.py": "test_taught test_rises",
    "bank/sides.py": "test_sides",
    "bank/surface.py": "test_learn_music test_let_go test_surface",
    "bank/taught.py": "test_taught",
    "bank/tokens.py": "test_tokens test_let_go",
    "bank/variations.py": "test_variations",
    "bank/voices.py": "test_kits test_taught test_voices",
    "bank/waver.py": "test_waver test_let_go",
    "bank/wavers.py": "test_taught test_wavers",
    "live/attacks.py": "test_live_attacks",
    "live/card.py": "test_live",
    "live/feeling.py": "test_feeling",
    "live/instrument.py": "test_feeling test_live_attacks test_live",
    "live/routing.py": "test_live",
    "live/stage.py": "test_live test_live_rooms",
    "live/take.py": "test_live",
    "live/tape.py": "test_live",
    "live/terminal_keys.py": "test_live",
    "measuring/align.py": "test_align test_learn_music",
    "measuring/attack.py": "test_attacks",
    "measuring/band_response.py": "test_rooms",
    "measuring/known_sound.py": "test_rooms",
    "measuring/note.py": "test_measuring",
    "measuring/octaves.py": "test_learn_recording",
    "measuring/part_voices.py": "test_polyphony",
    "measuring/partials.py": "test_measuring",
    "measuring/polyphony.py": "test_polyphony",
    "measuring/power.py": "test_learn_music test_replayed test_learnt_kits",
    "measuring/replayed.py": "test_replayed",
    "measuring/rooms.py": "test_rooms",
    "measuring/roundtrip.py": "test_measuring test_replayed test_soundfont",
    "measuring/sharing.py": "test_polyphony",
    "measuring/voice_fit.py": "test_replayed test_soundfont",
    "training/losses.py": "test_model test_objective test_training_handovers",
    "training/objective.py": "test_settings test_training_handovers test_objective",
    "training/scheme.py": "test_settings test_training_handovers test_objective test_training",
    "training/trainer.py": "test_settings test_training_handovers test_training",
}
_LEFT_ALONE = (ast.Raise, ast.Import, ast.ImportFrom, ast.Assert)
_SYMMETRIC = ("min", "max", "minimum", "maximum", "gcd", "isclose", "hypot")
_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or,
    ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    file: str  # below src/miao
    line: int
    was: str
    becomes: str
    code: str  # of the whole file

    @property
    def change(self) -> str:
        return f"{self.was} -> {self.becomes}"


def places_of(source: str) -> list[tuple[int, int]]:
    """Every change that a file allows: which place, and which of its changes."""
    return [(i, k) for i, (node, *_) in enumerate(_places(ast.parse(source))) for k, _ in enumerate(_changed(node))]


def mutant_at(file: str, source: str, place: tuple[int, int]) -> Mutant:
    """One change of a file."""
    tree = ast.parse(source)
    node, parent, name, index = next(islice(_places(tree), place[0], None))
    new = next(islice(_changed(node), place[1], None))
    before = ast.unparse(tree)
    if index is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[index] = new
    after = ast.unparse(ast.fix_missing_locations(tree))
    was, becomes = next(pair for pair in zip(before.splitlines(), after.splitlines(), strict=False) if len({*pair}) > 1)
    was, becomes = _around_the_change(was.strip(), becomes.strip())
    return Mutant(file, node.lineno, was, becomes, after)


def _around_the_change(was: str, becomes: str) -> tuple[str, str]:
    """Both in some hundred letters, where they begin to differ."""
    differ = (n for n, (a, b) in enumerate(zip(was, becomes, strict=False)) if a != b)
    same = next(differ, min(len(was), len(becomes)))
    start = max(same - 60, 0)
    return was[start : same + 60].strip(), becomes[start : same + 60].strip()


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, str, int | None]]:
    """What may be changed: (node, parent, field, index)."""

    def walk(parent: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, str, int | None]]:
        for name, value in ast.iter_fields(parent):
            if name in ("annotation", "returns", "decorator_list", "bases"):
                continue
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(node, ast.AST) or isinstance(node, _LEFT_ALONE):
                    continue
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("log", "warnings.warn")):
                    continue
                if isinstance(node, ast.keyword) and node.arg == "strict":  # how long two lists are is checked, too
                    continue
                if any(True for _ in _changed(node)):
                    yield node, parent, name, index
                yield from walk(node)

    return walk(tree)


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    def with_(**fields: object) -> ast.AST:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in _SWAPS:
            yield with_(op=_SWAPS[type(op)]())
        case ast.Compare(ops=[op]) if type(op) in _SWAPS:
            yield with_(ops=[_SWAPS[type(op)]()])
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool() as value):
            yield with_(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield with_(value=value + 1)
        case ast.IfExp():
            yield with_(body=node.orelse, orelse=node.body)
        case ast.If():
            yield with_(test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Call(func=func, args=[first, second]) if ast.unparse(func).rpartition(".")[
            2
        ] not in _SYMMETRIC and ast.dump(first) != ast.dump(second):
            yield with_(args=[second, first])
        case ast.Call(keywords=keywords) if len(keywords) > 1 and not node.args:
            yield with_(keywords=keywords[:-1])
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield ast.copy_location(ast.Pass(), node)
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield with_(value=ast.Constant(None))
        case ast.Continue():
            yield ast.copy_location(ast.Break(), node)


def chosen(files: list[str], n: int, seed: int) -> list[Mutant]:
    """At most n mutants of each file, drawn by the seed and the file's name."""
    found = []
    for file in files:
        source = (ROOT / "src" / "miao" / file).read_text()
        every = places_of(source)
        random.Random(f"{seed} {file}").shuffle(every)  # so that a larger sample holds a smaller one
        found += [mutant_at(file, source, place) for place in sorted(every[:n])]
    return found


def unchanged(file: str) -> Mutant:
    """The file as it is, written by the same hand: its tests must pass."""
    return Mutant(file, 0, "", "", ast.unparse(ast.parse((ROOT / "src" / "miao" / file).read_text())))


def judge(mutant: Mutant, place: Path, tests: list[str] | None = None) -> str:
    """Says "killed", "survived" or "too slow", by the tests of its file (or some) in a forked process."""
    path = place / "src" / "miao" / mutant.file
    whole = path.read_text()
    path.write_text(mutant.code)
    try:
        child = os.fork()
        if not child:
            try:
                _run_tests(place, tests or [f"tests/{name}.py" for name in TESTS[mutant.file].split()])
            finally:
                os._exit(1)  # whatever a mutant does to pytest: the copy is the parent's, who goes on with it
        _, status = os.waitpid(child, 0)
    finally:
        path.write_text(whole)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL):
        return "too slow"
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
    if code in (3, 5, NOT_THE_MUTANT):  # pytest's own troubles; 4: what all tests need cannot be imported any more
        sys.exit(f"{mutant.file}: pytest ends with {code}")
    return "survived" if code == 0 else "killed"


def _run_tests(place: Path, tests: list[str]) -> None:
    """In a forked process: never comes back."""
    import resource

    import pytest

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SLOWEST_SECONDS, SLOWEST_SECONDS))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.alarm(20 * SLOWEST_SECONDS)  # what waits for ever
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(place / "src"))
    os.environ["PYTHONPATH"] = str(place / "src")
    os.chdir(place)
    found = importlib.util.find_spec("miao")
    if "miao" in sys.modules or found is None or str(found.origin) != str(place / "src" / "miao" / "__init__.py"):
        os._exit(NOT_THE_MUTANT)
    there = [test for test in tests if (place / test).exists() or not test.startswith("tests/")]
    os._exit(int(pytest.main(["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", *there])))


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of what the tests need; and what takes long to import, imported once for all forks."""
    for name in ("mido", "onnxruntime", "pytest", "soundfile", "soxr", "torch", "typer.testing"):
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in ("src", "tests", "examples", "docs", "bench"):
            shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md", "Makefile"):
            shutil.copy(ROOT / part, place / part)
        yield place


def key_of(mutant: Mutant) -> str:
    """What a judgement depends on."""
    texts = [mutant.code]
    for name in ["conftest", *TESTS[mutant.file].split()]:
        path = ROOT / "tests" / f"{name}.py"
        texts.append(path.read_text() if path.exists() else "")
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def main() -> int:
    """Judge the sample, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", help="beginnings of names below src/miao, such as sound or midi/file")
    parser.add_argument("-n", type=int, default=20, help="mutants of each file at the most (20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page-only", action="store_true", help="write docs/mutants.md of what has been judged")
    options = parser.parse_args()
    files = [f for f in TESTS if (ROOT / "src" / "miao" / f).exists() and f.startswith(tuple(options.files or [""]))]
    results: dict[str, dict] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    sample = [(mutant, key_of(mutant)) for mutant in chosen(files, options.n, options.seed)]
    with copied() as place:
        for file in files:
            whole = unchanged(file)
            if (key := key_of(whole)) not in results and not options.page_only:
                if judge(whole, place) != "survived":
                    sys.exit(f"{file}: its tests ({TESTS[file]}) fail as it is; mend them first")
                results[key] = {"file": file, "change": "", "said": "passes"}
        for number, (mutant, key) in enumerate(sample, 1):
            if key not in results and not options.page_only:
                began = time.monotonic()
                said = judge(mutant, place)
                results[key] = {"file": mutant.file, "change": mutant.change, "said": said}
                RESULTS.write_text(json.dumps(results, indent=0))
                print(f"{number}/{len(sample)} {said:9} {mutant.file}:{mutant.line}  {mutant.change}  "
                      f"({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
    judged = [
        {"file": mutant.file, "line": mutant.line, "change": mutant.change, "said": results[key]["said"]}
        for mutant, key in sample
        if key in results
    ]
    PAGE.write_text(page(judged, options.n, options.seed))
    n_alive = sum(r["said"] == "survived" for r in judged)
    print(f"{len(judged)} mutants, {len(judged) - n_alive} noticed, {n_alive} survived; see {PAGE.relative_to(ROOT)}")
    return 0


def page(judged: list[dict], n: int, seed: int) -> str:
    """docs/mutants.md."""
    reasons = tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}
    lines = [
        "# Mutants",
        "",
        f"Written by `make mutants` (at most {n} mutants of each file, seed {seed}); how they are made and judged",
        "stands in `tests/mutants/run.py`. A mutant that changes nothing that could be heard or seen is *alike*: no",
        "test can notice it.",
        "",
        "| file | mutants | noticed | survived | of these alike | noticed of those that differ |",
        "|---|---|---|---|---|---|",
    ]
    rows, survivors = [], []
    for file in TESTS:
        mine = [r for r in judged if r["file"] == file]
        if not mine:
            continue
        alive = [r for r in mine if r["said"] == "survived"]
        alike = [r for r in alive if reasons.get(file, {}).get(r["change"], "").startswith("alike")]
        rows.append((file, len(mine), len(mine) - len(alive), len(alive), len(alike)))
        survivors += [(file, r, reasons.get(file, {}).get(r["change"], "")) for r in alive]
    total = ("all", *(sum(row[k] for row in rows) for k in range(1, 5)))
    for name, all_of_them, noticed, alive, alike in [*rows, total]:
        share = 100 * noticed / max(all_of_them - alike, 1)
        lines.append(f"| {name} | {all_of_them} | {noticed} | {alive} | {alike} | {share:.0f} % |")
    waiting = [file for file in TESTS if file not in {row[0] for row in rows}]
    if waiting:
        lines += ["", f"Not judged yet, so that nothing is known of all: {', '.join(waiting)}."]
    lines += ["", "## Survivors", "", "| where | change | why |", "|---|---|---|"]
    for file, r, why in survivors:
        change = r["change"].replace("|", "\\|")
        lines.append(f"| {file}:{r['line']} | `{change}` | {why or 'not looked at yet'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
