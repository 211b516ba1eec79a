"""Levels that are added key by key behind the nets: to which cells of which notes, and what they are measured from."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.key_levels import N_KINDS, KeyLevels
from miao.bank.voices import drum_voice
from miao.datasets.notes import Source
from miao.errors import BankError
from miao.measuring.roundtrip import one_note_score, play
from miao.sound import spectrum
from miao.training.key_levels import (
    SECONDS,
    band_medians,
    cell_shifts,
    make_key_levels,
    measure_bands,
    missing_bands,
    players_of_keys,
)

RATE = spectrum.SAMPLE_RATE


def shifts(*by_key):
    """Shifts of keys, the same in all cells; by kind of chunk as they are, twice and three times that."""
    return np.array([[[n * v] * (tk.N_CELLS - 1) for n in (1, 2, 3)] for v in by_key], np.float32)


LEVELS = KeyLevels.of([None, (60, shifts(1.0, -2.0)), None, (50, shifts(4.0))])


def added(kind, voice, pitch, level=30.0):
    chunk = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), level, np.float32)
    out = LEVELS.added(kind, chunk, np.array([voice]), np.array([pitch], np.float32))
    assert (out[..., tk.PITCH_CELL] == level).all()
    return float(out[0, 7, 3] - np.float32(level))


def test_a_key_has_its_own_shift_by_kind_of_chunk_and_those_beyond_that_of_the_outermost():
    assert [added(kind, 1, 60) for kind in range(N_KINDS)] == [1, 2, 3]
    assert [added(tk.ATTACK, 1, pitch) for pitch in (20, 59, 60, 61, 62, 100)] == [1, 1, 1, -2, -2, -2]
    assert added(tk.ATTACK, 3, 90) == 4 and added(tk.ATTACK, 0, 60) == 0
    assert added(tk.ATTACK, 9, 60) == 0  # a voice that the table does not know


def test_silence_stays_silence_and_what_sounds_is_not_silenced():
    assert added(tk.ATTACK, 3, 50, level=0.2) == 0
    assert added(tk.RELEASE, 1, 61, level=3.0) == pytest.approx(0.5 - 3.0)
    assert added(tk.ATTACK, 3, 50, level=62.0) == 1.0  # the highest level


def test_what_was_added_to_the_token_before_is_taken_off_by_the_kind_of_chunk_that_it_is_of():
    def taken(kind, index, age):
        token = np.full((1, tk.N_CELLS), 30, np.float32)
        some = {"voice": np.array([1]), "pitch": np.array([60.0]), "index": np.array([index]), "age": np.array([age])}
        return 30 - float(LEVELS.taken_off(kind, token, **some)[0, 5])

    assert taken(tk.SUSTAIN, 0, 0.16) == 1  # of the attack
    assert taken(tk.SUSTAIN, 1, 0.8) == 2
    assert taken(tk.RELEASE, 0, 0.1) == 1  # let go within the attack
    assert taken(tk.RELEASE, 0, 0.5) == 2
    assert taken(tk.RELEASE, 2, 0.9) == 3


def test_they_come_back_from_a_file_and_a_damaged_one_is_told(tmp_path):
    LEVELS.save(tmp_path / "keys.safetensors")
    again = KeyLevels.load(tmp_path / "keys.safetensors")
    for name in ("first", "lowest", "n_keys", "levels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(LEVELS, name))
    dataclasses.replace(LEVELS, n_keys=LEVELS.n_keys + np.uint8(3)).save(tmp_path / "keys.safetensors")
    with pytest.raises(BankError, match="rows of keys that are not there"):
        KeyLevels.load(tmp_path / "keys.safetensors")


def test_voices_behind_others_keep_their_own():
    joined = KeyLevels.joined([LEVELS, None, LEVELS.alone(3)], [5, 2, 1])
    assert joined.first.tolist() == [-1, 0, -1, 2, -1, -1, -1, 3]
    chunk = np.full((2, 1, tk.N_CELLS), 30, np.float32)
    out = joined.added(tk.ATTACK, chunk, np.array([7, 5]), np.array([50.0, 50.0]))
    assert out[:, 0, 0].tolist() == [34, 30]
    assert KeyLevels.joined([None, None], [1, 1]) is None and LEVELS.alone(0) is None


def test_nets_are_asked_as_if_nothing_were_added():
    """A note of the bank with key levels is the note without, moved by them: chunk by chunk, release and all."""
    bank = Bank.load("gm", 1, has_more=False).with_key_levels(None)
    moved = bank.with_key_levels(KeyLevels.of([(60, shifts(1.5))]))
    note = {"voice": np.array([0]), "pitch": np.array([60.0], np.float32), "velocity": np.array([0.7], np.float32),
            "context": np.zeros((1, bank.context_width), np.float32)}  # fmt: skip
    last = [np.full((1, tk.N_CELLS), np.nan, np.float32)] * 2
    for kind, index, age in ((tk.ATTACK, 0, 0.0), (tk.SUSTAIN, 0, 0.16), (tk.SUSTAIN, 1, 0.8), (tk.RELEASE, 0, 1.44)):
        at = {"index": np.array([index]), "age": np.array([age], np.float32)}
        plain, own = (b.decode(kind, **note, **at, previous=p)[0] for b, p in zip((bank, moved), last, strict=True))
        settled = slice(15 if kind == tk.RELEASE else 0, None)  # a release sets out from where the note is
        plain, own = plain[:, settled], own[:, settled]
        loud = plain[..., : tk.PITCH_CELL] > 8
        np.testing.assert_allclose((own - plain)[..., : tk.PITCH_CELL][loud], 1.5 * (kind + 1), atol=1e-3)
        last = [plain[:, -1], own[:, -1]]


def test_a_copy_of_a_program_plays_as_the_program_but_for_how_notes_open():
    from miao.training.new_voice import program_copy

    bank = Bank.load("gm", 1, has_more=False).with_openings(None)
    bank = bank.with_key_levels(KeyLevels.of([None] * 11 + [(60, shifts(2.0, 3.0))]))
    about = {"name": "copy", "bank": "gm", "nets": bank.nets_checksum}
    both = bank.with_voices([program_copy(bank, 11, 0.0, about)])
    levels, _ = both.decode(
        tk.ATTACK, voice=np.array([11, both.embeddings.n_voices - 1]), pitch=np.full(2, 66, np.float32),
        velocity=np.full(2, 0.6, np.float32), index=np.zeros(2, np.int64), age=np.zeros(2, np.float32),
        previous=np.zeros((2, tk.N_CELLS), np.float32), context=np.zeros((2, bank.context_width), np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(levels[0], levels[1], atol=1e-4)


def test_what_is_missing_is_found_band_by_band_before_and_after_the_key_comes_up():
    time = np.arange(int(1.3 * RATE)) / RATE
    low, high = (np.sin(2 * np.pi * hz * time) for hz in (300, 3000))
    theirs = np.stack([0.1 * low + 0.1 * high] * 2)
    ours = np.stack([0.1 * low + np.where(time < 1.0, 0.05, 0.2) * high] * 2)
    found = missing_bands(theirs, ours, 1.0)
    bands = [int(spectrum.log_mel(x).mean(axis=0).argmax()) for x in (low, high)]
    np.testing.assert_allclose(found[tk.SUSTAIN, bands], [0, 6], atol=0.2)
    np.testing.assert_allclose(found[tk.ATTACK, bands], [0, 6], atol=0.2)
    np.testing.assert_allclose(found[tk.RELEASE, bands], [0, -6], atol=0.2)
    assert found[tk.SUSTAIN, spectrum.N_MELS - 1] == 0  # nothing is heard there


def test_a_key_is_measured_from_its_own_note(toy_bank):
    players = players_of_keys(toy_bank, 0, np.array([60, 64]), 100)
    for key, player in zip((60, 64), players, strict=True):
        score = one_note_score(0, key, 100, SECONDS)
        np.testing.assert_allclose(play(player, score), play(toy_bank, score), atol=1e-5)


class Teacher:
    """A sound bank that is the bank itself, so many dB louder."""

    def __init__(self, bank, voice, louder_db):
        self.bank, self.voice, self.gain = bank, voice, 10 ** (louder_db / 20)

    def note(self, program, pitch, velocity, seconds, **_):
        score = one_note_score(self.voice, pitch, velocity, min(seconds, 0.6))
        return self.gain * play(self.bank, score, voice=self.voice)[:, :35_000]


def test_a_drum_gets_what_its_bands_lack_and_is_as_loud_as_its_teachers():
    bank, voice = Bank.load("gm", 1, has_more=False).with_key_levels(None), drum_voice(38)
    found = measure_bands(Teacher(bank, voice, 5.0), bank, voice, Source(0, key=38))
    assert found.shape == (1, N_KINDS, spectrum.N_MELS)
    np.testing.assert_allclose(np.median(0.95 * found[0, tk.ATTACK]), 5.0, atol=0.5)


def test_a_drum_that_bands_bring_no_nearer_is_left_as_it_is():
    class Click(Teacher):
        def note(self, *_, **__):
            return np.pad(np.full((2, 40), 0.3, np.float32), ((0, 0), (0, 12_000)))

    bank, voice = Bank.load("gm", 1, has_more=False).with_key_levels(None), drum_voice(46)
    (found,) = measure_bands(Click(bank, voice, 0.0), bank, voice, Source(0, key=46))
    shifts = cell_shifts(bank.table, voice, 46, 0.95 * found)[None]
    moved = bank.with_key_levels(KeyLevels.of([None] * voice + [(46, shifts)]))
    click = spectrum.log_mel(Click(bank, voice, 0.0).note())
    before, after = (spectrum.log_mel(play(b, one_note_score(voice, 46, 98, 0.27))) for b in (bank, moved))
    assert spectrum.log_mel_error(click, after) <= spectrum.log_mel_error(click, before) + 0.1


def test_what_is_missing_still_when_that_is_added_is_added_too(monkeypatch):
    bank, heard = Bank.load("gm", 1, has_more=False).with_key_levels(None), []

    def missing(_font, bank, _voice, _source):
        keys = bank.additions.key_levels
        heard.append(None if keys is None else float(keys.of_key(3, 60)[tk.SUSTAIN, 60]))
        return np.full((2, N_KINDS, spectrum.N_MELS), 3.0 if len(heard) == 1 else 0.5, np.float32)

    monkeypatch.setattr("miao.training.key_levels.KEYS", range(60, 62))
    monkeypatch.setattr("miao.training.key_levels._missing_of_keys", missing)
    found = measure_bands(None, bank, 3, Source(3))
    assert heard == [None, pytest.approx(0.95 * 3.0 / tk.LEVEL_STEP_DB, abs=0.07)]
    np.testing.assert_allclose(found, 3.5)


def test_keys_get_what_their_bands_lack(toy_bank, monkeypatch):
    monkeypatch.setattr("miao.training.key_levels.PASSES", 1)  # its nets cannot be given levels
    monkeypatch.setattr("miao.training.key_levels.KEYS", range(60, 62))
    found = measure_bands(Teacher(toy_bank, 0, 4.0), toy_bank, 0, Source(0))
    loud = np.abs(found[:, tk.SUSTAIN]).argmax(axis=1)
    np.testing.assert_allclose(found[np.arange(2), tk.SUSTAIN, loud], 4.0, atol=0.1)


def test_the_median_counts_numbers_only_and_where_there_are_few_nothing():
    values = np.array([[1.0, np.nan, 5, 9], [3, np.nan, np.nan, np.nan], [2, np.nan, 9, np.nan]])
    assert band_medians(values).tolist() == [2, 0, 7, 9]
    assert band_medians(np.concatenate([values] + [np.full((1, 4), np.nan)] * 2)).tolist() == [2, 0, 7, 0]


def test_a_cell_gets_what_the_band_around_its_partials_lacks(toy_bank, tmp_path):
    missing = np.zeros((N_KINDS, spectrum.N_MELS), np.float32)
    band = int(spectrum.mel_filters()[:, round(880 * 2048 / RATE)].argmax())
    missing[tk.SUSTAIN, band - 1 : band + 2] = 7.0
    moved = cell_shifts(toy_bank.table, 0, 69, missing)  # A4
    assert moved[tk.SUSTAIN, 1] == pytest.approx(7.0 / tk.LEVEL_STEP_DB, abs=0.3)
    assert not moved[tk.SUSTAIN, [0, 3, 10]].any() and not moved[tk.ATTACK].any()
    noise = tk.N_PARTIALS + int(np.searchsorted(tk.NOISE_EDGES_HZ, 880)) - 1
    assert moved[tk.SUSTAIN, noise] > 1.5 and moved[tk.SUSTAIN, noise + 4] == 0


def test_a_table_is_made_of_measured_keys_and_of_how_trims_have_changed(toy_bank, tmp_path):
    missing = np.full((5, N_KINDS, spectrum.N_MELS), 3.5, np.float32)
    missing[[0, 4]] = np.nan  # the sound bank has no notes there
    trim = np.full(128, 2.0, np.float32)  # 2 dB more than now
    np.savez(tmp_path / "bands_004.npz", missing=missing, keys=[59, 60, 61, 62, 63], trim=trim, nets="x")
    levels = make_key_levels(toy_bank, tmp_path)
    assert (levels.first[4], levels.lowest[4], levels.n_keys[4]) == (0, 60, 3) and levels.first[5] == -1
    np.savez(
        tmp_path / "bands_006.npz", missing=missing, keys=[59, 60, 61, 62, 63], trim=trim, nets="x", errors=[3.0, 3.1]
    )
    assert make_key_levels(toy_bank, tmp_path).first[6] == -1  # it would bring the voice no nearer
    wanted = (0.95 * 3.5 + 2.0) / tk.LEVEL_STEP_DB
    assert levels.levels[0, tk.SUSTAIN, 0] * 0.125 == pytest.approx(wanted, abs=0.07)
