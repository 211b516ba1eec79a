"""What those who build on miao are promised: its public names, their types, their documents and their errors."""

import doctest
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import miao

ROOT = Path(__file__).parents[1]
NAMES = [name for name in miao.__all__ if name != "__version__"]


def run(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)


def test_importing_miao_loads_nothing_and_its_names_are_loaded_when_asked_for():
    code = (
        "import sys; before = set(sys.modules); import miao; "
        # Python's own may come: the loader of a package that is installed in place asks for some
        "new = {m.partition('.')[0] for m in set(sys.modules) - before} - {'miao', *sys.stdlib_module_names}; "
        "print(sorted(new), sorted(set(miao.__all__) - set(dir(miao))), 'numpy' in sys.modules); "
        "miao.Audio; print('numpy' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    assert run(code).stdout == "[] [] False\nTrue False\n"


def test_every_public_name_is_there_under_its_own_name_and_no_other_is():
    assert sorted(miao.__all__, key=str) == sorted(set(miao.__all__))
    for name in NAMES:
        assert getattr(miao, name).__name__ in (name, "LearntVoice")
    with pytest.raises(AttributeError, match="no attribute 'Synthesiser'"):
        _ = miao.Synthesiser


def test_all_errors_are_one_kind():
    for name in NAMES:
        if name.endswith("Error"):
            assert issubclass(getattr(miao, name), miao.MiaoError)


def builder():
    spec = importlib.util.spec_from_file_location("build_api", ROOT / "docs" / "build_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_public_names_are_documented_and_say_nothing_that_is_not_there():
    build_api = builder()
    assert {name for name, _ in build_api.documented()} >= {*NAMES, "Score.between", "Audio.save"}
    for name, thing in build_api.documented():
        text = inspect.getdoc(getattr(thing, "__func__", thing))
        assert text, name
        assert not build_api.wrong_names(text), name
    assert build_api.wrong_names("`Score.tracks`, `Score.nothing` and `read_score`") == ["Score.nothing"]


@pytest.mark.parametrize("name", ["", *NAMES])
def test_examples_in_the_documents_of_public_names_run(name, tmp_path, monkeypatch):
    shutil.copy(ROOT / "examples" / "gymnopedie.mid", tmp_path / "song.mid")
    monkeypatch.chdir(tmp_path)
    thing = getattr(miao, name) if name else miao
    space = vars(sys.modules[thing.__module__]) if name else {}
    found = doctest.DocTestFinder(recurse=False).find(thing, name or "miao", globs=dict(space), module=False)
    for test in found:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_no_error_of_the_library_speaks_of_the_command():
    folders = ("midi", "sound", "bank", "synth")
    files = [path for folder in folders for path in (ROOT / "src/miao" / folder).rglob("*.py")]
    files += [ROOT / "src/miao/files.py", ROOT / "src/miao/config.py"]
    for path in files:
        for line in path.read_text().splitlines():
            if not line.strip().startswith("#"):
                said = re.search(r"""["'].*(\s--[a-z]+|`miao [a-z]+).*["']""", line)
                assert not said, f"{path.name}: {line.strip()}"


@pytest.mark.slow
def test_who_builds_on_it_is_checked_by_its_types(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "theirs.py").write_text(
        "import miao\n"
        "score: miao.Score = miao.read_score('song.mid')\n"
        "seconds: float = miao.Synthesizer.from_pretrained('gm').render(score).duration\n"
        "reveal_type(miao.find_voice)\n"
        "wrong: int = miao.read_audio('song.wav')\n"
    )
    words = ["-m", "mypy", "--strict", "--no-incremental", "--config-file=", "theirs.py"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
    assert 'theirs.py:5: error: Incompatible types in assignment (expression has type "Audio"' in done.stdout, done
    assert "-> miao.bank.learnt_voice.LearntVoice" in done.stdout and "Found 1 error in 1 file" in done.stdout
