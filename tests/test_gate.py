"""The gate between two banks: what is worse is refused, unless somebody wrote why."""

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parent.parent / "bench" / "gate.py"


@pytest.fixture(scope="module")
def gate():
    spec = importlib.util.spec_from_file_location("gate", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_what_is_worse_by_more_than_its_limit_is_told(gate):
    before = {"short": 3.0, "long": 1.0, "decay": 2.0, "attack": 4.0}
    after = {"short": 3.4, "long": 1.6, "attack": 9.5, "velocity": 9.0}
    assert gate.worse(before, after, gate.LIMITS) == {"attack": (4.0, 9.5), "long": (1.0, 1.6)}
    assert gate.worse(after, before, gate.LIMITS) == {}


def test_a_reason_belongs_to_a_voice_and_a_measure(gate, tmp_path):
    path = tmp_path / "reasons"
    path.write_text("# known\n12 attack: bells have none\n13 attack:\nbank load: kits\n")
    assert gate.read_reasons(path) == {("12", "attack"): "bells have none", ("bank", "load"): "kits"}
    assert gate.read_reasons(None) == {}
