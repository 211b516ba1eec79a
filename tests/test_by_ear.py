"""Drums learnt by ear: torch plays what the engine plays, and what is learnt comes nearer and is kept."""

import shutil

import numpy as np
import pytest
import torch

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.drums import ATTACK_SHAPE, FILE, SUSTAIN_SHAPE, DrumCorrections, OwnCorrections
from miao.bank.folder import bank_folder, read_config, seal
from miao.bank.voices import drum_voice
from miao.datasets.notes import Source
from miao.errors import BankError
from miao.measuring.roundtrip import one_note_score, play
from miao.sound import spectrum
from miao.training.bank_nets import bank_nets
from miao.training.by_ear import EarConfig, Stroke, _Player, gathered, learn_by_ear, log_mel, played_error

SNARE = 38


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", n_threads=1)


def corrections(voice, attack=0.0, sustain=0.0):
    own = OwnCorrections.of([voice], [np.full(ATTACK_SHAPE, attack)], [np.full(SUSTAIN_SHAPE, sustain)])
    own.attack[:, :, 1], own.sustain[:, :, :, 1] = 0, 0
    return own


def test_a_drum_is_played_in_torch_as_the_engine_plays_it(gm):
    voice, n_samples = drum_voice(SNARE), 9000
    player = _Player(gm, bank_nets(gm), voice, SNARE, [50, 110], n_samples)
    with torch.no_grad():
        ours = player(torch.tensor([0, 1]), np.random.default_rng(0)).numpy()
    for sound, velocity in zip(ours, (50, 110), strict=True):
        theirs = play(gm, one_note_score(voice, SNARE, velocity, 1.0))[:, :n_samples]
        mels = [spectrum.log_mel(x) for x in (theirs, sound)]
        assert spectrum.log_mel_error(*mels) < 2.5  # another noise: two renderings by other seeds differ by 2.2
        assert abs(float(np.median(mels[0][:8] - mels[1][:8]))) < 0.4


def test_log_mel_with_gradients_is_the_one_of_the_reports():
    sound = np.random.default_rng(0).normal(size=(2, 5000)).astype(np.float32)
    np.testing.assert_allclose(log_mel(torch.from_numpy(sound)[None])[0], spectrum.log_mel(sound)[:10], atol=1e-3)


def test_what_is_hushed_moves_nothing_before(gm):
    player = _Player(gm, bank_nets(gm), drum_voice(SNARE), SNARE, [100], 30_000)
    with torch.no_grad():
        before = player.levels(torch.tensor([0]))[0]
        player.hush(0.05)
        after = player.levels(torch.tensor([0]))[0]
    at_end = 1 + round(0.075 / tk.STEP_SECONDS[tk.ATTACK])  # the knot behind the moment
    torch.testing.assert_close(after[: 1 + 10], before[: 1 + 10])
    assert not after[at_end + 16 : tk.CHUNK_STEPS].any() and not after[1 + tk.CHUNK_STEPS :].any()


def test_a_drum_learnt_by_ear_comes_nearer_to_strokes_that_are_another_drums(gm):
    voice, key = drum_voice(SNARE), SNARE
    teacher = gm.with_own_drums(corrections(voice, attack=-4.0))
    sounds = [(v, play(teacher, one_note_score(voice, key, v, 0.2))[:, :9000]) for v in (60, 110)]
    strokes = [Stroke(v, sound) for v, sound in sounds]
    learnt = learn_by_ear(gm, bank_nets(gm), voice, key, strokes, EarConfig(steps=8, rate=0.8))
    own = OwnCorrections.of([voice], [learnt.attack], [learnt.sustain])
    source = Source(0, key=key)
    assert played_error(gm.with_own_drums(own), source, strokes) < played_error(gm, source, strokes) - 1.0


def test_only_what_came_nearer_is_kept(tmp_path):
    for voice, errors in ((130, [4.0, 3.0]), (131, [4.0, 4.1])):
        np.savez(tmp_path / f"ear_{voice}.npz", attack=np.ones(ATTACK_SHAPE), sustain=np.ones(SUSTAIN_SHAPE),
                 shifts=np.zeros(0), errors=errors)  # fmt: skip
    drums = {voice: Source(0, key=voice - 101) for voice in (130, 131, 132)}
    assert gathered(tmp_path, drums).voice.tolist() == [130]


def test_drums_that_sound_like_another_one_have_its_corrections_and_no_others():
    own = corrections(2, attack=3.0)
    drums = DrumCorrections.none(5).replaced(own, np.array([0, 1, 2, 3, 2, 5, 2]))
    levels = np.full((5, tk.CHUNK_STEPS, tk.N_CELLS), 20.0, np.float32)
    moved = drums.applied(tk.ATTACK, levels, np.arange(5), np.full(5, 0.5), np.zeros(5, np.int64))
    assert (moved - levels)[:, 0, 0].tolist() == [0, 0, 3, 0, 3]


def test_a_banks_own_drums_are_read_from_its_folder_and_must_be_there(gm, tmp_path):
    folder = tmp_path / "bank"
    shutil.copytree(bank_folder("gm"), folder)
    config = read_config(folder)
    corrections(drum_voice(SNARE), attack=-2.0).save(folder / FILE)
    seal(folder, config)
    bank = Bank.load(folder, n_threads=1)
    assert bank.additions.drums.at(drum_voice(SNARE))[0][0, 0, 0] == -2
    corrections(30_000).save(folder / FILE)
    seal(folder, config)
    with pytest.raises(BankError, match=r"drums.safetensors: names voices that are not there"):
        Bank.load(folder, n_threads=1)


def test_a_kits_drum_rings_on_when_its_key_is_asked_for_by_its_kit(gm):
    (kit, key), _ = next(place for place in sorted(gm.kits.keys.items()) if place[0][1] == 49)  # a crash cymbal
    sound = play(gm, one_note_score(drum_voice(key), key, 100, 0.05, kit))
    last = np.flatnonzero(np.abs(sound).max(axis=0) > 1e-3 * np.abs(sound).max())[-1]
    assert last > 22_050
