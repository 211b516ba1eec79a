"""What holds for the project as a whole: its order of files, its documents, its examples, its presets."""

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import typer

from miao.config import load_preset
from miao.midi.score import read_score
from miao.midi.writing import write_score

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "miao"
DOCUMENTS = sorted(
    path for folder in (".", "docs", "docs/results", "examples", "bench") for path in (ROOT / folder).glob("*.md")
)
EXAMPLES = ("ode_to_joy", "greensleeves", "gymnopedie")

# a folder imports only from its left; within a folder there is no circle
ORDER = [
    "errors", "arrays", "files", "memory", "config", "midi", "sound", "bank", "expression", "synth", "nets",
    "measuring", "plot", "datasets", "training", "peers", "evaluation", "reproduction", "live", "web", "cli",
    "__main__",
]  # fmt: skip
HEAVY = ("torch", "scipy", "numba", "matplotlib", "librosa", "pandas", "sklearn", "onnx", "fluidsynth")
USERS_FILES = re.compile(r"\b(song|your|FILE|NAME)\b")  # names in documents that stand for the reader's own files


def modules():
    return sorted(p for p in SOURCE.rglob("*.py") if p.name != "__init__.py")


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def place(path):
    """(top-level name, name inside its folder) of a source file."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0], parts[1:]


def imported_names(path):
    """Top-level names of miao that a file imports, anywhere in it but under TYPE_CHECKING."""
    package = ["miao", *path.relative_to(SOURCE).parent.parts]
    names = set()
    for node in running_code(path):
        if isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            dotted = [[*base, alias.name] for alias in node.names]
        else:
            continue
        names |= {name[1] for name in dotted if name[0] == "miao" and len(name) > 1}
    return {name for name in names if not name.startswith("_")}


@cache
def running_code(path):
    """All nodes of a file but those that only a type checker sees."""

    found, waiting = [], [tree_of(path)]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
                found.append(node)
                waiting.append(node)
    return found


def test_imports_go_one_way():
    for path in modules():
        name, _ = place(path)
        assert name in ORDER, f"{name} has no place in the order of files yet"
        later = {other for other in imported_names(path) if ORDER.index(other) > ORDER.index(name)}
        assert not later, f"{path} imports from its right: {sorted(later)}"


@pytest.mark.parametrize("name", ["miao", "miao.synth.stems", "miao.synth.synthesizer", "miao.cli.main"])
def test_rendering_imports_nothing_heavy(name):
    code = f"import sys, {name}; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_renderer_depends_on_nothing_heavy():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~ ;\[]", line)[0].lower() for line in project["dependencies"]}
    assert not names & set(HEAVY)


def graph():
    """The files of miao as modules, each with those that it imports, anywhere in it but under TYPE_CHECKING."""
    names = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    edges = {}
    for name, path in names.items():
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        found = set()
        for node in running_code(path):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                dotted = ".".join([*base, *(node.module.split(".") if node.module else [])])
                inner = {f"{dotted}.{alias.name}" for alias in node.names}
                found |= {one if one in names else dotted for one in inner}
        edges[name] = {one for one in found if one in names} - {name, "miao"}
    return edges


def test_no_file_imports_itself_by_way_of_others():
    left = graph()
    assert len(left) > 100 and left["miao.sound.audio"] >= {"miao.errors", "miao.sound.writer"}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert not left, f"in circles, or behind one: {sorted(left)}"


WRITES = re.compile(
    r"""\.write_text\(|\.write_bytes\(|\.savefig\(|os\.replace|os\.rename|TemporaryFile\(|mkstemp|mkdtemp|np\.save|save_file|"""
    r"""onnx\.save|open\([^)\n]*["'][wxa]b?\+?b?["']|["']ab["']"""
)
IN_PLACE = {  # who writes otherwise than by files.py
    "files.py",
    "sound/writer.py",  # streams and devices, and what it spools for them
    "synth/mastering.py",  # a file without a name between two passes
    "datasets/download.py",  # a download goes on where it stopped
    "synth/journal.py",  # it grows
    "training/trainer.py",  # a log grows
}


def test_files_are_written_in_one_way():
    # what `written` and `written_folder` have given a temporary name, and bytes in memory
    into_memory = re.compile(r"\btemporary\b|\bnew\b|np\.save\(file|str\(path\)|savez_compressed\($")
    for path in modules():
        found = [line.strip() for line in path.read_text().splitlines() if WRITES.search(line)]
        found = [line for line in found if not into_memory.search(line)]
        name = str(path.relative_to(SOURCE))
        assert not found or name in IN_PLACE, name
        assert len(found) <= (9 if name == "files.py" else 2), name


def test_no_file_is_called_by_what_it_is_not_about():
    names = {p.stem for p in SOURCE.rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "misc", "tools"}


def test_public_names_are_documented():
    for path in modules():
        tree = tree_of(path)
        definitions = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
        missing = [n.name for n in definitions if not ast.get_docstring(n)]
        if path.name != "__main__.py" and not ast.get_docstring(tree):
            missing.insert(0, "the file itself")
        assert not missing, path


# documents


def blocks(path, *languages):
    """Code blocks of a document: (line number, text)."""
    text = path.read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text[: m.start()].count("\n") + 1, m[2]) for m in found if m[1] in languages]


def named(kind, *languages):
    return [
        pytest.param(text, id=f"{path.relative_to(ROOT)}:{line}")
        for path in DOCUMENTS
        for line, text in blocks(path, *languages)
    ]


@pytest.fixture(scope="module")
def songs_folder(tmp_path_factory):
    """A folder in which the documents' commands make sense: song.mid is the first seconds of an example."""
    folder = tmp_path_factory.mktemp("songs")
    write_score(read_score(ROOT / "examples" / "gymnopedie.mid").between(0, 4), folder / "song.mid")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def test_python_in_documents_runs_without_anything_heavy(songs_folder):
    examples = {example.id: example.values[0] for example in named("python", "python")}
    assert len(examples) > 5
    # in one process, one after another, each in a folder of its own
    run = f"""import json, os, shutil, sys, traceback
faults, songs = {{}}, os.getcwd()
for name, code in json.loads({json.dumps(json.dumps(examples))}).items():
    os.chdir(shutil.copytree(songs, songs + "-" + name.replace("/", "-")))
    try:
        exec(compile(code, name, "exec"), {{"__name__": "__main__"}})
    except BaseException:
        faults[name] = traceback.format_exc()
    if heavy := [m for m in {HEAVY!r} if m in sys.modules]:
        faults.setdefault(name, f"imports {{heavy}}")
print("faults:", *faults.values(), sep="\\n")
"""
    command = [sys.executable, "-W", "error", "-c", run]
    ran = subprocess.run(command, cwd=songs_folder, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0 and ran.stdout.endswith("faults:\n"), ran.stdout + ran.stderr[-2000:]


@pytest.mark.parametrize("text", named("console", "console", "bash", "sh"))
def test_commands_in_documents_are_ones_that_exist(text, songs_folder, monkeypatch):
    monkeypatch.chdir(songs_folder)
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|<>&")
        lexer.whitespace_split = True
        words = list(lexer)
        for stop in ("|", "<", ">", "&&"):
            words = words[: words.index(stop)] if stop in words else words
        if words:
            check_command(words)


def check_command(words):
    """Fails unless this command line would be understood; only miao's own and the project's are known."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # variables for this command alone
        words = words[1:]
    name, *arguments = words
    if name == "torchrun":
        name, arguments = "miao", arguments[arguments.index("miao") + 1 :]
    if name == "miao":
        from miao.cli.main import app

        group = typer.main.get_command(app)
        command = group.commands[arguments[0]]
        while hasattr(command, "commands"):
            arguments = arguments[1:]
            command = command.commands[arguments[0]]
        command.make_context(name, list(arguments[1:]))  # raises for an unknown option or a value that does not fit
    elif name == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {a for a in arguments if "=" not in a} <= targets
    elif words[:2] == ["pip", "install"]:
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert all(a.startswith(("-", ".", known["name"])) or a == "constraints.txt" for a in arguments[1:])
        extras = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        assert {e for group in extras for e in group.split(",")} <= known["optional-dependencies"].keys()
    elif name == "python":
        assert (ROOT / arguments[0]).is_file()
    else:
        pytest.fail(f"do not know how to check {' '.join(words)}")


def spans(path):
    """Words in `backticks` outside of code blocks."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_documents_name_exist(path):
    places = (ROOT, path.parent, SOURCE, ROOT / "examples", SOURCE / "banks" / "gm")
    suffixes = (".py", ".md", ".toml", ".txt", ".cpp", ".mid", ".onnx", ".safetensors", "/")
    wanted = [s for s in spans(path) if s.endswith(suffixes) and " " not in s and not USERS_FILES.search(s)]
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    missing = [name for name in wanted if not any((place / name).exists() for place in places)]
    missing += [link for link in links if not (path.parent / link).exists()]
    for link, heading in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", path.read_text()):
        page = path.parent / link if link else path
        headings = re.findall(r"^#+ (.+)$", page.read_text() if page.is_file() else "", re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
        missing += [f"{link}#{heading}"] * (heading not in anchors)  # as GitHub makes them
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_that_documents_use_exist(path):
    for word in spans(path):
        parts = word.removesuffix("()").split(".")
        is_name = len(parts) > 1 and parts[0] in ORDER and all(p.isidentifier() for p in parts)
        if not is_name or parts[-1] in ("py", "toml"):
            continue
        n = 2 if (SOURCE / parts[0] / f"{parts[1]}.py").is_file() else 1
        thing = importlib.import_module(".".join(["miao", *parts[:n]]))
        for name in parts[n:]:
            known = [*dir(thing), *getattr(thing, "__dataclass_fields__", ())]
            assert name in known, f"{word}: there is no {name}"
            thing = getattr(thing, name, None)


@cache
def names_by_file():
    """Functions and classes of every file that stands in a folder: {file: [(folder, names)]}."""
    holders = {}
    for file in modules():
        folder, inner = place(file)
        if inner:
            tree = tree_of(file)
            names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
            holders.setdefault(inner[0], []).append((folder, names))
    return holders


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_in_documents_begin_with_their_folder(path):
    if path.name == "log.md":  # what was true on its day
        return
    for word in spans(path):
        file, _, rest = word.removesuffix("()").partition(".")
        homes = [folder for folder, names in names_by_file().get(file, ()) if rest.split(".")[0] in names]
        assert not homes, f"{word}: say {homes[0]}.{word}"


def test_tables_of_results_have_their_places_and_pages_come_from_reports(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    tables = importlib.import_module("tables")
    places = re.findall(r"<!-- table (\S+) -->", (ROOT / "docs/results.md").read_text())
    assert sorted(places) == sorted(page.name for page in tables.PAGES if page.short is not None)
    written = {path.stem for path in (ROOT / "docs/results").glob("*.md")} - {"version-0.1"}
    assert written <= {page.name for page in tables.PAGES}
    kept = tables.filled(
        "before\n<!-- table x -->\nold\n<!-- end -->\nafter\n", replace(tables.PAGES[0], name="x"), ["| new |"]
    )
    assert "| new |" in kept and "old" not in kept and kept.startswith("before") and kept.endswith("after\n")


def test_the_tour_names_each_folder_of_code_in_the_order_of_imports():
    rows = re.findall(r"^\| (`\w+/`(?:, `\w+/`)*) \|", (ROOT / "docs" / "tour.md").read_text(), re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"\w+", row)]
    assert told == [name for name in ORDER if (SOURCE / name).is_dir()]


def test_the_tour_keeps_its_lines_short():
    lines = (ROOT / "docs" / "tour.md").read_text().splitlines()
    assert not [line for line in lines if len(line) > 120]


def test_the_first_thing_to_run_stands_near_the_top_of_the_readme():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert "miao render song.mid" in lines[:30]
    assert any("Synthesizer.from_pretrained" in line for line in lines[:30])


def test_every_file_that_is_data_has_an_origin():
    text = (ROOT / "DATA.md").read_text()
    files = [p for folder in (SOURCE / "banks", ROOT / "examples") for p in folder.rglob("*") if p.is_file()]
    files = [p for p in files if "__pycache__" not in p.parts]
    assert len(files) > 2 * len(EXAMPLES)
    assert not [str(p.relative_to(ROOT)) for p in files if p.name not in text]


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert project["version"] == metadata.version("miao-synth") == newest


# presets and examples


@pytest.mark.parametrize("name", sorted(p.stem for p in SOURCE.glob("presets/*.toml")))
def test_every_preset_loads_and_builds(name):
    pytest.importorskip("torch")
    from miao.peers.trained import KINDS, peer_of
    from miao.training.scheme import Miao, RunConfig

    peer = peer_of(name)
    kind = RunConfig if peer is None else KINDS[peer].run_config()
    config = load_preset(kind, name)
    assert config != kind(), "a preset states what differs"
    model = Miao(config.model) if peer is None else KINDS[peer].net(config.model)
    assert 10_000 < sum(p.numel() for p in model.parameters()) < 20_000_000


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_the_same_file_each_time(name, tmp_path):
    for path in (ROOT / "examples").glob("*.py"):
        shutil.copy(path, tmp_path)
    environment = os.environ | {"PYTHONHASHSEED": "random"}
    subprocess.run([sys.executable, f"{name}.py"], cwd=tmp_path, check=True, env=environment)
    assert (tmp_path / f"{name}.mid").read_bytes() == (ROOT / "examples" / f"{name}.mid").read_bytes()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_sound_score(name):
    score = read_score(ROOT / "examples" / f"{name}.mid")
    assert not score.warnings and not score.ignored
    assert 40 <= score.duration <= 90
    assert all(track.name for track in score.tracks)
    assert len({track.channel for track in score.tracks}) == len(score.tracks)
    for track in score.tracks:
        assert track.notes["is_drum"].all() == (track.channel == 9)
        gaps = track.notes["damp"] - track.notes["start"]
        assert (gaps > 0).all(), f"{name}: {track.name} has a note that does not sound"


def test_the_orchestra_starts_low_and_ends_with_everybody():
    tracks = {track.name: track.notes for track in read_score(ROOT / "examples" / "ode_to_joy.mid").tracks}
    assert len(tracks) >= 8
    assert sorted(tracks, key=lambda name: tracks[name]["start"][0])[:2] in (["Basses", "Cellos"], ["Cellos", "Basses"])
    assert all(notes["end"][-1] > 75 for notes in tracks.values())


def test_the_joy_theme_is_beethovens():
    cellos = read_score(ROOT / "examples" / "ode_to_joy.mid").tracks[11]
    above_d = list(cellos.notes["pitch"][:30] - 50)
    half = [4, 4, 5, 7, 7, 5, 4, 2, 0, 0, 2, 4]
    assert cellos.name == "Cellos"
    assert above_d == [*half, 4, 2, 2, *half, 2, 0, 0]


def test_the_piano_needs_its_pedal():
    (piano,) = read_score(ROOT / "examples" / "gymnopedie.mid").tracks
    assert (piano.notes["damp"] - piano.notes["end"]).mean() > 0.5


def test_what_faults_are_planted_in_is_there(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "mutants")
    planted, by_lot = (importlib.import_module(name) for name in ("planted", "run"))
    gone = [f.name for f in planted.FAULTS if (SOURCE / f.file).read_text().count(f.text) != 1]
    named = {f.notices.split(":")[0].split(" ")[0] for f in planted.FAULTS}
    named |= {f"{test}.py" for tests in by_lot.TESTS.values() for test in tests.split()}
    gone += sorted(name for name in named if not (ROOT / "tests" / name).exists())
    assert gone + sorted(file for file in by_lot.TESTS if not (SOURCE / file).exists()) == []
