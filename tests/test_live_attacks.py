"""Attacks that were prepared: no net is asked when their key is struck, and they sound as if it had been."""

import time
from dataclasses import replace

import numpy as np
import pytest

import miao.live.stage as stage_module
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.live.attacks import MOST, Attacks, Preparing
from miao.live.instrument import Instrument
from miao.synth.player import FLOOR
from miao.synth.settings import PlaySettings

if stage_module._compiled is None:
    pytest.skip("the package was installed without a compiler", allow_module_level=True)


def counted(bank):
    asked = []

    def decode(kind, **inputs):
        asked.append((kind, len(inputs["voice"])))
        return bank.decode(kind, **inputs)

    return replace(bank, decode=decode), asked


def heard(bank, messages, is_prepared):
    stage = stage_module.Stage(bank, range(16), PlaySettings(), is_plain=True)
    instrument = Instrument(stage)
    if is_prepared:
        instrument.prepare(bank.voice(0, 60, is_drum=False), (60, 64))
        while stage.attacks.prepare():
            pass
    out = np.empty((2, 441), np.float32)
    whole = []
    for n in range(60):
        if n in messages:
            instrument.put(messages[n], at_ns=0)
        instrument.round()
        stage.engine.render(out)
        whole.append(out.copy())
    return np.concatenate(whole, axis=1)


MESSAGES = {2: b"\x90\x3c\x50", 20: b"\x90\x40\x67", 40: b"\x80\x3c\x40"}


def test_what_is_expected_is_the_voice_that_plays():
    bank = Bank.load("gm", 1)
    learnt, program = bank.voice(0, 60, is_drum=False), bank.voice(48, 60, is_drum=False)
    own = len(bank.table.kind) - 1
    assert learnt not in (0, own)  # a learnt piano stands in the program's place
    stage = stage_module.Stage(bank, range(16), PlaySettings())
    instrument = Instrument(stage, voices={3: own})
    for channel, wanted, voice in ((0, 0, learnt), (1, 48, program), (3, 0, own)):
        stage.attacks._wanted.clear()
        instrument.expect(channel, wanted)
        assert {voice for voice, _, _ in stage.attacks._wanted} == {voice}


def test_a_prepared_attack_asks_no_net_and_sounds_the_same():
    bank, asked = counted(Bank.load("gm", 1))
    expected = heard(bank, MESSAGES, is_prepared=False)
    assert asked.count((tk.ATTACK, 1)) == 2
    asked.clear()
    sound = heard(bank, MESSAGES, is_prepared=True)
    assert asked.count((tk.ATTACK, 1)) == 0
    np.testing.assert_allclose(sound, expected, atol=10 ** (-90 / 20) * np.abs(expected).max() + FLOOR)


def test_likely_velocities_come_first_and_no_more_are_kept_than_fit(toy_bank, monkeypatch):
    monkeypatch.setattr("miao.live.attacks.MOST", 40)
    attacks = Attacks(replace(toy_bank, encode=None), PlaySettings())
    attacks.want(0, range(60, 72))
    attacks.prepare()
    assert {round(127 * key[3]) for key in attacks._prepared} == {79, 80, 81}
    attacks.want(1, range(60, 72))
    while attacks.prepare():
        pass
    assert attacks.n_prepared <= 40 < MOST and {key[1] for key in attacks._prepared} == {0, 1}


def test_an_attack_that_has_been_found_stays_though_others_take_its_place(toy_bank, monkeypatch):
    monkeypatch.setattr("miao.live.attacks.MOST", 2)
    attacks = Attacks(replace(toy_bank, encode=None), PlaySettings())
    attacks.want(0, (60, 61), (80,))
    attacks.prepare()
    found = next(iter(attacks._prepared))
    assert found in attacks and "another" not in attacks
    attacks.want(1, (60, 61), (80,))
    attacks.prepare()
    assert found not in attacks._prepared and len(attacks[found].levels)


def test_where_notes_hear_each_other_nothing_is_prepared(toy_bank):
    assert toy_bank.encode is not None
    attacks = Attacks(toy_bank, PlaySettings())
    attacks.want(0, range(60, 72))
    assert not attacks.is_waiting and not attacks.prepare()


def test_a_voice_that_is_played_is_prepared_behind_the_playing(toy_bank):
    stage = stage_module.Stage(replace(toy_bank, encode=None), range(16), PlaySettings(), is_plain=True)
    instrument = Instrument(stage, velocities=(90,))
    instrument.choose(0, 7)
    instrument.start()
    instrument.put(b"\x90\x3c\x50")
    until = time.monotonic() + 20
    while stage.attacks.n_prepared < 61 and time.monotonic() < until:
        time.sleep(0.01)
    instrument.stop()
    assert {key[1] for key in stage.attacks._prepared} == {7} and stage.attacks.n_prepared == 61


def test_where_nothing_is_to_be_prepared_one_looks_again_later(toy_bank):
    attacks, looked = Attacks(toy_bank, PlaySettings()), []
    attacks.prepare = lambda: bool(looked.append(0))
    preparing = Preparing(attacks)
    time.sleep(0.2)
    preparing.stop()
    assert 1 <= len(looked) <= 20
