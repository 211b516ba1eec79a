"""Libraries that only some commands need: what is not installed is said in one line, before any work is done."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from miao import errors
from miao.midi.score import read_score
from miao.midi.writing import write_score

ROOT = Path(__file__).resolve().parents[1]
MODULES = {  # of distributions that are imported by another name
    "ai-edge-litert": "ai_edge_litert", "lightning-fabric": "lightning_fabric", "pyfluidsynth": "fluidsynth",
    "python-rtmidi": "rtmidi", "pyyaml": "yaml",
}  # fmt: skip
ELSEWHERE = {"basic_pitch", "musicnn", "dask", "ray"}  # named by no extra: each has words of its own
COMMANDS = {  # which extras each command needs; all others need none
    "plot": ["plot"], "match": ["plot"], "train": ["train"], "export": ["train"], "learn": ["train"],
    "live": ["live"], "serve": ["web"], "evaluate": ["evaluate"], "measure": ["evaluate"],
    "data benchmark": ["evaluate"],
    "reproduce table1": ["train", "evaluate"], "reproduce table2": ["train", "evaluate"],
    "reproduce table3": ["train", "evaluate"], "reproduce figure2": ["train", "evaluate"],
}  # fmt: skip
SOME = {  # and which only parts of one
    "data soundfont": ("train", ["joblib", "fluidsynth"]), "data pairs": ("train", ["joblib", "fluidsynth"]),
    "data prepare": ("train", ["joblib"]), "finish": ("train", ["torch"]), "play": ("live", ["sounddevice"]),
}  # fmt: skip

# runs [what is not there, command line] pairs in one process; nothing heavy is ever imported in it
RUN = """
import json, sys
import typer
from typer.testing import CliRunner

class Absent:
    names = ()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = Absent()
sys.meta_path.insert(0, absent)
from miao.cli.main import app

def leaves(command, words=()):
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield words, command

def arguments(command):
    for p in command.params:
        if p.required or p.name == "output":
            number = {"integer": "1", "float": "1"}.get(p.type.name, "absent.png")
            yield from [number] if p.param_type_name == "argument" else [p.opts[0], number]

known = dict(leaves(typer.main.get_command(app)))

def answer(names, line):
    absent.names = names
    if isinstance(line, str):
        words = tuple(line.split())
        line = [*words, *arguments(known[words])]
    result = CliRunner().invoke(app, line)
    kept = isinstance(result.exception, (SystemExit, type(None)))
    return [result.exit_code, result.stderr, result.stdout, "" if kept else repr(result.exception)]

one_by_one, without_any, lines = json.loads(sys.argv[1])
every = [" ".join(words) for words in known]
print(json.dumps([
    [answer(*asked) for asked in one_by_one], {line: answer(without_any, line) for line in every},
    [answer(without_any, line) for line in lines],
]))
"""
PLAYING = [["render", "song.mid"], ["info", "song.mid"], ["match", "song.mid", "song.wav"], ["voices", "list"],
           ["search", "--audio", "song.wav", "--midi", "."], ["data", "list"], ["data", "info", "maestro"]]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What all commands say: each without each library that it needs, all without any, and those that need none."""
    folder = tmp_path_factory.mktemp("extras")
    write_score(read_score(ROOT / "examples" / "gymnopedie.mid").between(0, 2), folder / "song.mid")
    asked = [[[(module,), command] for command, _, module in needs_of_commands()], all_modules(), PLAYING]
    command = [sys.executable, "-c", RUN, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def needs_of_commands():
    """Each command with each extra and library that it needs."""
    asked = []
    for command, extras in COMMANDS.items():
        asked += [(command, extra, module) for extra in extras for module in errors.EXTRAS[extra]]
    for command, (extra, modules) in SOME.items():
        asked += [(command, extra, module) for module in modules]
    return asked


def all_modules():
    return sorted({m for table in (errors.EXTRAS, errors.PARTS) for names in table.values() for m in names})


def test_every_library_of_an_extra_is_known_and_no_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, lines in project["optional-dependencies"].items():
        if extra == "dev":
            continue
        names = {re.split(r"[<>=]", line)[0] for line in lines} - {"safetensors"}  # which the renderer needs, too
        known = {*errors.EXTRAS[extra], *errors.PARTS.get(extra, ())}
        assert known == {MODULES.get(name, name) for name in names}


def test_the_code_imports_nothing_that_is_not_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    renderer = {re.split(r"[<>=]", line)[0] for line in project["dependencies"]}
    imported = set()
    for path in (ROOT / "src" / "miao").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    found = imported - sys.stdlib_module_names - {"miao"}
    assert found <= renderer | set(all_modules()) | ELSEWHERE


def test_each_missing_library_is_one_line_that_says_what_to_install(answers):
    for (command, extra, module), (code, said, printed, fault) in zip(needs_of_commands(), answers[0], strict=True):
        extras = COMMANDS.get(command, [extra])
        lines = {f"miao: {module} is not installed: pip install 'miao-synth[{e}]'\n" for e in extras}
        assert (code, fault, printed) == (2, "", "") and said in lines, f"{command} without {module}: {said}{fault}"


def test_without_any_extra_each_command_says_what_it_needs_and_the_others_need_nothing(answers):
    assert {*COMMANDS, *SOME} <= answers[1].keys()
    for command, (code, said, _, fault) in answers[1].items():
        assert not fault and code in (0, 2), f"{command}: {fault}"
        assert code == 0 or said.count("\n") == 1, f"{command}: {said}"
        needed = {*COMMANDS.get(command, ()), *SOME.get(command, ())[:1]}
        named = re.findall(r"pip install 'miao-synth\[(\w+)\]'", said)
        assert bool(needed) == bool(named) and set(named) <= needed, f"{command}: {said}"


def test_without_any_extra_a_song_is_played(answers):
    for line, (code, said, _, fault) in zip(PLAYING, answers[2], strict=True):
        assert (code, fault) == (0, ""), f"{line}: {said}{fault}"


def test_a_library_that_is_imported_all_the_same_is_one_line(tmp_path):
    """The net under the commands: what none of them has asked for."""
    code = (
        "import sys; sys.modules['soxr'] = None\n"
        "import miao.cli.main as m; sys.argv = ['miao', 'render', 'song.mid']; m.main()"
    )
    write_score(read_score(ROOT / "examples" / "gymnopedie.mid").between(0, 2), tmp_path / "song.mid")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "miao: soxr is not installed: pip install 'miao-synth'\n")


@pytest.mark.parametrize("extra", errors.EXTRAS)
def test_what_is_there_is_not_missed(extra, monkeypatch):
    monkeypatch.setattr(errors.importlib.util, "find_spec", lambda name: object())
    errors.needs(extra)
    monkeypatch.setattr(errors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        errors.MissingExtra, match=rf"{errors.EXTRAS[extra][0]} is not installed: pip install .*{extra}"
    ):
        errors.needs(extra)
