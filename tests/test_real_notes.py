"""Held-out notes are also judged at the tuning that each was recorded in."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miao.bank.bank import Bank
from miao.bank.sides import Sides, Turned
from miao.bank.tokens import N_PARTIALS
from miao.datasets.samples import Recording
from miao.training.new_voice import program_copy

BENCH = Path(__file__).parents[1] / "bench"
OBOE, KEY = 68, 74


def test_a_note_that_is_out_of_tune_is_met_where_it_is(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    bench = importlib.import_module("real_notes")
    gm = Bank.load("gm", 1, has_more=False)
    voice = program_copy(gm, OBOE, 0.0, {"name": "oboe", "bank": gm.name, "nets": gm.nets_checksum})

    def at(cents):
        return replace(voice, table=replace(voice.table, tune_cents=np.full_like(voice.table.tune_cents, cents)))

    def heard(own):
        asked = Recording("", KEY, 90, np.zeros((2, 0), np.float32), 1.0, True)
        return replace(asked, sound=bench.played(gm.with_voices([own]), len(gm.table.kind), asked))

    plain, sharp = heard(at(0.0)), heard(at(24.0))
    own = bench.tuning(sharp, sharp.sound, 0)
    assert own - bench.tuning(plain, plain.sound, 0) == pytest.approx(24, abs=1)
    in_tune, as_recorded = bench.errors([sharp], [own], [plain.sound], [0], 0)
    assert in_tune < 1.5 < 3.0 < as_recorded, "but for what playing it slower does"
    assert bench.errors([sharp], [own], [sharp.sound], [0], 0) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_what_is_installed_is_learnt_from_all_notes(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCH)
    bench = importlib.import_module("real_notes")
    gm = Bank.load("gm", 1, has_more=False)
    recordings, turned = [], Sides.of([None] * OBOE + [Turned(0, np.full((1, N_PARTIALS), 0.15))])
    for pitch in range(70, 80, 2):
        asked = Recording(str(pitch), pitch, 90, np.zeros((2, 0), np.float32), 0.8, True)
        recordings.append(replace(asked, sound=bench.played(replace(gm, sides=turned), OBOE, asked)))
    monkeypatch.setattr(bench, "read", lambda source, folder: recordings)
    (tmp_path / "whole").mkdir()
    source = next(source for source in bench.SOURCES if source.name == "bassoon")
    row = {"miao": 1.0, "teacher": 9.0, "fonts": {}, "decay_taught_db": 0.0}
    measured = bench.learnt(source, recordings, gm, tmp_path / "bassoon.safetensors")
    installed = bench.installed(source, row, tmp_path, tmp_path, gm)
    assert [voice.about["n_notes"] for voice in (measured, installed)] == ["4", "5"]
    assert not installed.table.tune_cents[0, 70:79].any(), "it is in tune, as its players were not"
    assert [len(voice.sides.turn) for voice in (measured, installed)] == [9, 9]
    np.testing.assert_allclose(installed.sides.turns(0, 74, np.arange(6)), 0.15, atol=0.02)
    refused = bench.installed(source, row | {"teacher": 1.2}, tmp_path, tmp_path, gm)
    assert refused.about["n_notes"] == "4", "what does not pass does not play"
