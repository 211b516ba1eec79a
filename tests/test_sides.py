"""How far partials are ahead on the right: what is kept, what is heard of it, and what it is measured from."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.partials import harmonic_partials
from miao.bank.sides import Sides, Turned
from miao.datasets.notes import Source
from miao.datasets.samples import Recording
from miao.errors import BankError
from miao.live.stage import Stage
from miao.measuring.roundtrip import one_note_score, play
from miao.measuring.voice_fit import VoiceFit
from miao.sound.spectrum import SAMPLE_RATE
from miao.synth.note import Strike
from miao.synth.player import Player
from miao.synth.settings import PlaySettings
from miao.training import sides as training
from miao.training.new_voice import program_copy

ROW = np.linspace(-0.45, 0.45, tk.N_PARTIALS)
TURNED = Turned(60, np.stack([ROW, 0.5 * ROW, np.zeros(tk.N_PARTIALS)]))
SIDES = Sides.of([TURNED, None, Turned(40, 0.25 * np.ones((1, tk.N_PARTIALS)))])


def with_sides(bank, sides=SIDES):
    return dataclasses.replace(bank, sides=sides)


def test_each_key_has_its_row_and_those_beyond_the_outermost():
    cells = np.arange(tk.N_PARTIALS)
    for pitch, wanted in ((20, ROW), (60, ROW), (61, 0.5 * ROW), (62, 0 * ROW), (120, 0 * ROW)):
        np.testing.assert_allclose(SIDES.turns(0, pitch, cells), wanted, atol=0.51 / 254)
    assert not SIDES.turns(1, 60, cells).any() and not SIDES.turns(700, 60, cells).any()


def test_partials_of_one_cell_are_turned_both_ways_and_always_alike():
    cells = np.array([0, 1, 2, *[5] * 200])
    found = SIDES.turns(2, 40, cells)
    np.testing.assert_allclose(np.abs(found), 0.25, atol=0.51 / 254)
    assert (found[:4] > 0).all() and 70 < (found[4:] < 0).sum() < 130
    np.testing.assert_array_equal(found, SIDES.turns(2, 40, cells))


def test_a_file_holds_them_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "sides.safetensors"
    SIDES.save(path)
    np.testing.assert_array_equal(Sides.load(path).turns(0, 60, np.arange(9)), SIDES.turns(0, 60, np.arange(9)))
    dataclasses.replace(SIDES, n_keys=SIDES.n_keys + np.uint8(1)).save(path)
    with pytest.raises(BankError, match="rows of keys that are not there"):
        Sides.load(path)


@pytest.mark.parametrize("pan", [0.0, 0.4])
def test_partials_are_ahead_as_far_as_the_bank_says(toy_bank, pan):
    """As the loops are told of a note: its right side is as loud as it was."""
    parts = {}
    for name, bank in (("plain", toy_bank), ("turned", with_sides(toy_bank))):
        player = Player(bank, (0,), PlaySettings())
        player.start(Strike(0.0, 0, 0, 60, 0.8, pan=pan))
        player.block(64)
        (one,) = player.notes.values()
        parts[name] = one.sound
    plain, turned = parts["plain"].gains, parts["turned"].gains
    assert not plain[:, 2].any() and len(plain) > 30
    np.testing.assert_array_equal(turned[:, 0], plain[:, 0])
    cells = parts["plain"].cells + (parts["plain"].shares > 0.5)
    angles = 2 * np.pi * SIDES.turns(0, 60, cells)
    wanted = plain[:, 1, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(turned[:, 1:], wanted, atol=1e-6)


def test_live_notes_are_ahead_too(toy_bank):
    """The engine of a keyboard against the stems of files."""
    bank, size, live, stems = with_sides(toy_bank), 256, [], []
    player, stage = Player(bank, (0,), PlaySettings()), Stage(bank, (0,), PlaySettings(), is_plain=True)
    for where in (player, stage.player):
        for n in range(2):
            where.start(Strike(0.1 * n, 0, 0, 60 + 4 * n, 0.8, send=0.0))
    for n in range(120):
        stage.advance((n + 1) * size / SAMPLE_RATE)
        live.append(np.empty((2, size), np.float32))
        stage.engine.render(live[-1])
        stems.append(player.block(size).stems[0])
    ours, theirs = (np.concatenate(some, axis=1) for some in (live, stems))
    scale = np.vdot(ours, theirs) / np.vdot(theirs, theirs)
    assert np.abs(ours - scale * theirs).max() < 1e-3 * np.abs(ours).max()
    assert np.corrcoef(theirs)[0, 1] < 0.9


def test_what_the_room_gets_more_of_a_note_is_ahead_as_far(toy_bank):
    player = Player(with_sides(toy_bank), (0,), PlaySettings())
    player.start(Strike(0.0, 0, 0, 60, 0.8, send=1.5))
    block = player.block(9000)
    assert np.corrcoef(block.stems[0])[0, 1] < 0.9
    np.testing.assert_allclose(block.extra[0], 0.5 * block.stems[0], atol=0.01 * np.abs(block.stems[0]).max())


def test_a_learnt_voice_that_says_nothing_of_sides_has_those_of_the_program_that_it_plays():
    gm = Bank.load("gm", 1, programs=[0])
    gm = dataclasses.replace(gm, defaults=[dataclasses.replace(voice, sides=None) for voice in gm.defaults])
    bare = dataclasses.replace(gm._taught("gm", 1, has_more=True), sides=SIDES)
    bank = bare.with_defaults(gm.defaults)
    (voice,) = (bank.voice(0, 60, is_drum=False),)
    assert voice == len(bare.table.kind)
    np.testing.assert_array_equal(bank.sides.turns(voice, 61, np.arange(40)), SIDES.turns(0, 61, np.arange(40)))
    assert not bank.sides.turns(5, 61, np.arange(40)).any()


def tones(turns, wanders=0.0, hz=220.0, seconds=1.0, seed=0):
    """A note [2, S] whose partials are ahead on the right, by so much more or less as it goes on."""
    random, time = np.random.default_rng(seed), np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros((2, len(time)))
    for n, turn in enumerate(turns, start=1):
        cycles = n * hz * time + random.random()
        moved = turn + wanders * np.sin(2 * np.pi * 3 * time)
        sound += np.sin(2 * np.pi * np.stack([cycles, cycles + moved])) / n
    return sound.astype(np.float32)


def test_turns_are_found_as_they_are_and_of_those_that_wander_what_is_alike():
    turns = np.array([0.1, -0.2, 0.4, 0.0, -0.45])
    found, share = training.turns_of(tones(turns), 220.0, harmonic_partials(1.0, 0.0, 0.0).below(5.5))
    np.testing.assert_allclose(found[:5], turns, atol=0.01)
    sound = tones(turns)
    middle, side = (sound[0] + sound[1]) / 2, (sound[0] - sound[1]) / 2
    assert share == pytest.approx(np.square(side).sum() / (np.square(side) + np.square(middle)).sum(), abs=0.01)
    moving = tones([0.05, 0.3], wanders=0.2)
    found, share = training.turns_of(moving, 220.0, harmonic_partials(1.0, 0.0, 0.0).below(2.5))
    middle, side = (moving[0] + moving[1]) / 2, (moving[0] - moving[1]) / 2
    assert share == pytest.approx(np.square(side).sum() / (np.square(side) + np.square(middle)).sum(), abs=0.02)
    assert found[0] > 0.12  # as wide as what it is told from, so further than in the mean


def recorded(pitch, turns, velocity=90, seed=0):
    hz = 440 * 2 ** ((pitch - 69) / 12)
    return Recording("", pitch, velocity, tones(turns, hz=hz, seconds=1.2, seed=seed), 1.2, False)


def test_recorded_notes_say_together_how_far_their_key_and_those_beside_it_are_turned():
    low, high = np.array([0.1, -0.2, 0.4, 0.0]), np.array([-0.3, 0.05, 0.25, -0.1])
    notes = [recorded(57, low), recorded(60, high), recorded(60, -0.9 * high, seed=1), recorded(60, high, seed=2)]
    notes[2] = dataclasses.replace(notes[2], sound=0.01 * notes[2].sound)
    fits = [VoiceFit(0)] * 4
    sides = training.recorded_sides(notes[:2], fits[:2])
    for pitch, wanted in ((50, low), (57, low), (58, low), (59, high), (60, high), (70, high)):
        np.testing.assert_allclose(sides.turns(0, pitch, np.arange(4)), wanted, atol=0.02)
    both = training.recorded_sides(notes, fits).turns(0, 60, np.arange(4))
    cosines = np.mean([np.cos(2 * np.pi * by * high) for by in (1, -0.9, 1)], axis=0)
    np.testing.assert_allclose(np.cos(2 * np.pi * both), cosines, atol=0.03)  # soft notes count as loud ones do
    assert (np.sign(both) == np.sign(high)).all()


def test_recordings_from_one_place_say_nothing_of_sides():
    note = recorded(57, np.zeros(4))
    one = dataclasses.replace(note, sound=note.sound[:1])
    assert training.recorded_sides([note, one], [VoiceFit(0)] * 2) is None
    assert training.recorded_sides([], []) is None


def test_a_learnt_voice_is_turned_as_itself_says_wherever_it_plays(tmp_path):
    gm = Bank.load("gm", 1, has_more=False)
    own = Sides.of([Turned(50, np.full((3, tk.N_PARTIALS), 0.2))])
    about = {"name": "x", "bank": gm.name, "nets": gm.nets_checksum, "program": "1"}
    plain = program_copy(gm, 0, 0.0, about)
    voice = dataclasses.replace(plain, sides=own)
    voice.save(tmp_path / "x.safetensors")
    voice = LearntVoice.load(tmp_path / "x.safetensors")
    other = dataclasses.replace(plain, about=plain.about | {"name": "y", "program": "3"})
    cells, n = np.arange(40), len(gm.table.kind)
    bank = with_sides(gm).with_defaults([other, voice]).with_voices([plain, voice])
    for number in (n + 1, n + 3):
        np.testing.assert_allclose(bank.sides.turns(number, 60, cells), 0.2, atol=0.51 / 254)
    np.testing.assert_array_equal(bank.sides.turns(n, 61, cells), SIDES.turns(2, 61, cells))
    np.testing.assert_array_equal(bank.sides.turns(0, 61, cells), SIDES.turns(0, 61, cells))
    assert not bank.sides.turns(n + 2, 61, cells).any()
    alone = with_sides(gm, None).with_defaults([other, voice]).sides
    np.testing.assert_allclose(alone.turns(n + 1, 60, cells), 0.2, atol=0.51 / 254)
    assert not alone.turns(n, 60, cells).any()
    dataclasses.replace(voice, sides=dataclasses.replace(own, n_keys=own.n_keys + np.uint8(1))).save(
        tmp_path / "y.safetensors"
    )
    with pytest.raises(BankError, match="its sides are of keys that are not there"):
        LearntVoice.load(tmp_path / "y.safetensors")


@pytest.fixture(scope="module")
def bank():
    return with_sides(Bank.load("gm", 1, has_more=False), None)


class Teacher:
    """A sound bank that is a bank whose partials are turned, without keys beyond some."""

    def __init__(self, bank, keys=range(128)):
        self.bank, self.keys = bank, keys

    def note(self, _program, pitch, velocity, seconds, **_):
        if pitch not in self.keys:
            return np.zeros((2, SAMPLE_RATE), np.float32)
        return play(self.bank, one_note_score(0, pitch, velocity, seconds), voice=0)


def test_what_a_teacher_does_is_measured_key_by_key(bank, monkeypatch):
    monkeypatch.setattr(training, "KEYS", range(59, 64))
    found = training.measure_sides(Teacher(with_sides(bank), range(60, 63)), bank.table, 0, Source(0))
    assert found.lowest == 59 and found.turns.shape == (5, tk.N_PARTIALS)
    for n, key in enumerate((60, 60, 61, 61, 61)):  # the sound bank has no 59 and no 63, and 62 is held out
        np.testing.assert_allclose(found.turns[n, :8], SIDES.turns(0, key, np.arange(8)), atol=0.03)
    assert training.measure_sides(Teacher(bank), bank.table, 0, Source(0)) is None
    assert training.measure_sides(Teacher(bank, ()), bank.table, 0, Source(0)) is None


def test_what_was_measured_is_gathered_by_voice(tmp_path, bank, monkeypatch):
    monkeypatch.setattr(training, "KEYS", range(60, 62))
    monkeypatch.setattr("miao.training.courses.SoundFont", lambda _: Teacher(with_sides(bank)))
    paths = list(training.prepare_sides(tmp_path / "any.sf2", tmp_path, bank.table, {0: Source(0)}))
    assert [path.name for path in paths] == ["sides_000.npz"]
    sides = training.gathered_sides(tmp_path, 3)
    assert (sides.first >= 0).tolist() == [True, False, False]
    np.testing.assert_allclose(sides.turns(0, 60, np.arange(6)), SIDES.turns(0, 60, np.arange(6)), atol=0.02)


def test_the_same_power_is_heard_of_both_sides(toy_bank):
    """What is measured of levels, and learnt from, does not change."""
    plain, turned = (play(bank, one_note_score(0, 60, 100, 0.5), voice=0) for bank in (toy_bank, with_sides(toy_bank)))
    np.testing.assert_array_equal(turned[0], plain[0])
    powers = [np.square(sound[1], dtype=float).sum() for sound in (plain, turned)]
    assert powers[1] == pytest.approx(powers[0], rel=0.02)
    side = turned[0] - turned[1]
    assert np.square(side).sum() > 0.2 * np.square(turned).sum()
