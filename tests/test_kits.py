"""Kits and variations: which voice plays which note, and what the drums of kits are made of."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.drums import DrumCorrections
from miao.bank.kits import GENERAL_MIDI, Kits, MoreVoices, variation_of
from miao.bank.voices import N_VOICES, PITCH_NODES, VoiceEmbeddings, drum_voice
from miao.errors import BankError
from miao.measuring.voice_fit import VoiceFit

KITS = Kits({(8, 36): 189, (8, 38): 191}, {(8, 4): 192, (16, 4): 193}, {(8, 4): "Detuned"})


def test_a_kit_plays_its_own_keys_and_the_standard_kit_the_others():
    assert KITS.voice(8, 36, is_drum=True) == 189
    assert KITS.voice(8, 37, is_drum=True) == KITS.voice(0, 37, is_drum=True) == drum_voice(37)
    assert KITS.voice(16, 36, is_drum=True) == drum_voice(36)  # no such kit
    assert KITS.has_kit(0) and KITS.has_kit(8) and not KITS.has_kit(16) and not GENERAL_MIDI.has_kit(8)


def test_a_key_beyond_a_kit_is_that_of_the_nearest_key():
    assert Kits({(8, 27): 200}, {}).voice(8, 12, is_drum=True) == 200


def test_variations_are_asked_for_as_gs_and_gm2_number_them():
    for bank in (8 << 7, 121 << 7 | 1):
        assert KITS.voice(4, 60, is_drum=False, bank=bank) == 192 and KITS.has_variation(4, bank)
    assert KITS.voice(4, 60, is_drum=False, bank=121 << 7 | 2) == 193
    for bank in (0, 121 << 7, 5):
        assert KITS.voice(4, 60, is_drum=False, bank=bank) == 4 and not KITS.has_variation(4, bank)
    assert KITS.voice(5, 60, is_drum=False, bank=8 << 7) == 5 and not KITS.has_variation(5, 8 << 7)


def test_what_gm2_and_xg_call_by_another_number_is_asked_for_by_its_name():
    """GM2's wide piano is no dark one, its pedal steel no Hawaiian guitar; XG's steel guitar 35 has twelve strings."""
    asked = {
        (121 << 7 | 1, 0): 0, (121 << 7 | 2, 0): 8, (121 << 7 | 1, 26): 0, (121 << 7 | 2, 38): 8, (121 << 7 | 1, 80): 0,
        (121 << 7 | 2, 80): 8, (121 << 7 | 1, 24): 8, (35, 25): 8, (96, 25): 16, (96, 26): 0, (8, 40): 8, (8, 41): 0,
        (8 << 7 | 2, 26): 8, (127 << 7, 4): 127,
    }  # fmt: skip
    assert {place: variation_of(*place) for place in asked} == asked


def test_no_bank_of_gs_that_only_chooses_a_module_is_a_variation():
    for program in range(128):
        assert [variation_of(lsb, program) for lsb in range(5)] == [0] * 5


def test_a_variation_that_is_not_there_is_played_by_what_plays_its_program():
    """That may be a learnt voice; its own variation 1 is what the nets were taught."""
    kits = Kits({}, {(0, 40): 300, (1, 40): 40, (8, 40): 290}, {(8, 40): "Slow Violin"})
    asked = [kits.voice(40, 60, is_drum=False, bank=bank << 7) for bank in (0, 1, 8, 16)]
    assert asked == [300, 40, 290, 300]
    assert [kits.has_variation(40, bank << 7) for bank in (0, 1, 8, 16)] == [False, True, True, False]
    assert [kits.variation_name(40, bank << 7) for bank in (0, 1, 8, 16)] == ["", "", "Slow Violin", ""]


def embeddings(n, nodes, value):
    return VoiceEmbeddings(
        np.full((n, nodes, 3), value, np.float16), np.full((3, n, nodes, tk.N_CELLS), value, np.float16)
    )


@pytest.fixture
def more():
    """Two drums, and the second of them and General MIDI's piano 6 dB softer."""
    row = VoiceFit(0, 3.0).table()
    table = type(row).joined([dataclasses.replace(row, trim_db=np.full(1, t, np.float32)) for t in (1.0, 2.0)])
    attack = np.zeros((2, 6, 2, tk.N_CELLS), np.float16)
    attack[1, :, 0] = 5
    sustain = np.zeros((2, 3, 2, 2, tk.N_CELLS), np.float16)
    like, gain = np.array([N_VOICES + 1, 0], np.int16), np.array([-6.0, -6.0], np.float32)
    return MoreVoices(Kits(KITS.keys, {}), table, embeddings(2, 1, 7), attack, sustain, like, gain)


def test_voices_of_kits_lie_behind_those_of_general_midi(more, toy_bank, tmp_path):
    more.save(tmp_path / "kits.safetensors")
    again = MoreVoices.load(tmp_path / "kits.safetensors")
    assert again.kits == Kits(KITS.keys, {})
    table, rows, drums = again.added_to(toy_bank.table, embeddings(N_VOICES, PITCH_NODES, 1))
    assert len(table.kind) == rows.n_voices == N_VOICES + 4
    told = [float(rows.at(tk.ATTACK, np.array([v]), np.array([50.0]))[0][0, 0]) for v in range(N_VOICES, N_VOICES + 4)]
    assert told == [7, 7, 7, 1]
    assert table.trim_db[N_VOICES:].tolist() == [1, 2, -4, -6]
    plain = np.full((3, tk.CHUNK_STEPS, tk.N_CELLS), 20, np.float32)
    voice = np.array([0, N_VOICES + 1, N_VOICES + 2])
    index, velocity = np.zeros(3, int), np.full(3, 0.7)
    levels = drums.applied(tk.ATTACK, plain, voice, velocity, index)
    assert levels[:, 4, 4].tolist() == [20, 25, 25] and plain.max() == 20


def test_kits_that_share_no_voice_stand_beside_voices_that_have_trims_by_key(more, toy_bank):
    alone = dataclasses.replace(more, like=more.like[:0], gain_db=more.gain_db[:0])
    by_key = np.tile(np.arange(128, dtype=np.float32) / 100, (N_VOICES, 1))
    table, _, _ = alone.added_to(
        dataclasses.replace(toy_bank.table, trim_db=by_key), embeddings(N_VOICES, PITCH_NODES, 1)
    )
    assert len(table.kind) == N_VOICES + 2
    assert table.trim_db[N_VOICES:, 5].tolist() == [1, 2] and table.trim(3, 50) == np.float32(0.5)


def test_corrections_follow_velocity_and_stay_out_of_releases():
    attack = np.zeros((1, 6, 2, tk.N_CELLS), np.float16)
    attack[:, :, 1] = 10
    drums = DrumCorrections(np.array([0], np.int16), attack, np.zeros((1, 3, 2, 2, tk.N_CELLS), np.float16))
    plain = np.full((2, tk.CHUNK_STEPS, tk.N_CELLS), 20, np.float32)
    voice, index = np.array([0, 5]), np.zeros(2, int)
    levels = drums.applied(tk.ATTACK, plain, voice, np.array([1.0, 1.0]), index)
    assert levels[:, 0, 0].tolist() == [25, 20]  # a voice beyond the table has none
    assert drums.applied(tk.RELEASE, plain, voice, np.array([1.0, 1.0]), index) is plain


def test_damaged_voices_are_one_line(more, tmp_path):
    path = tmp_path / "kits.safetensors"
    dataclasses.replace(more, like=np.array([999, 0], np.int16)).save(path)
    with pytest.raises(BankError, match="voices that are not there"):
        MoreVoices.load(path)


def test_a_bank_says_which_kits_it_has(toy_bank):
    assert toy_bank.kits.has_kit(0) and not toy_bank.kits.has_kit(40)
    assert (KITS.kit_of(8, 0), KITS.kit_of(40, 0)) == (8, 0)
    assert toy_bank.voice(40, 38, is_drum=True) == drum_voice(38)
