"""Variations of programs: which voice plays them, that they leave all others as they are, what the bank's own are."""

import dataclasses
import json

import numpy as np
import pytest
from midi_bytes import control, off, on, program, smf, track
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.defaults import kits_of
from miao.bank.folder import bank_folder
from miao.bank.key_levels import KeyLevels
from miao.bank.lasting import KNOT_SECONDS, Courses
from miao.bank.learnt_voice import find_voice
from miao.bank.openings import COARSE, FINE, Opening, Openings
from miao.bank.rises import STRENGTHS, Rise, Rises
from miao.bank.sides import Sides, Turned
from miao.bank.taught import TaughtKeys
from miao.bank.variations import FILE, Variations
from miao.bank.voices import LEARNT_PITCHES, N_VOICES, PITCH_NODES, VoiceEmbeddings
from miao.bank.wavers import Wavering, Wavers
from miao.cli.main import app
from miao.datasets import variations as datasets
from miao.datasets.notes import Source, draw_notes
from miao.errors import BankError, DataError
from miao.measuring.roundtrip import one_note_score, play
from miao.midi.score import read_score
from miao.midi.told import missing_sounds
from miao.training import variations as training
from miao.training.courses import held_chunks

VIOLIN, FLUTE, ORGAN, OBOE = 40, 73, 19, 68
RATE = 44100


@pytest.fixture(scope="module")
def taught():
    """What the nets of the bank were taught of General MIDI."""
    return Bank.load("gm", 1, has_more=False)


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


def copies(bank, programs):
    """Variation 8 of the violin and 16 of the flute, which are other programs in all that is told of them; the second
    has key levels, an opening, a rise, a waver, turned sides and a course, and ends at key 90."""
    rows, told = np.array(programs), bank.embeddings
    levels = np.full((1, 3, tk.N_CELLS - 1), -4.0, np.float32)
    opening = Opening(60, 1, False, np.full((1, len(COARSE), tk.N_CELLS - 1), 2.0, np.float32))
    every = np.ones((1, len(STRENGTHS), len(FINE)), np.float32)
    rise = Rise(60, every, np.ones((1, tk.N_CELLS - 1), np.float32))
    offsets = np.full((1, PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), -6, np.int8)
    return Variations(
        ((8, VIOLIN), (16, FLUTE)), ("One", "Other"), bank.table.chosen(rows.astype(np.int16)),
        VoiceEmbeddings(told.embeddings[rows], told.profiles[:, rows]),
        KeyLevels.of([None, (60, levels)]), Openings.of([None, opening]), Rises.of([None, rise]),
        Courses(np.array([-1, 0], np.int16), np.array([2], np.uint8), offsets),
        Wavers.of([None, Wavering(np.array([60], np.uint8), np.full((1, 73, tk.N_CELLS), 8, np.int8))]),
        Sides.of([None, Turned(60, np.full((1, tk.N_PARTIALS), 0.25))]), TaughtKeys.of([None, range(40, 91)]),
    )  # fmt: skip


def attack(bank, voice, pitch=60):
    return held_chunks(bank, voice, np.array([pitch]), 90, 0)[0][0]


def test_a_variation_is_its_own_voice_and_its_program_stays_what_it_is(taught):
    bank = taught.with_variations(copies(taught, (ORGAN, OBOE)))
    first = len(taught.table.kind)
    assert bank.voice(VIOLIN, 60, is_drum=False, bank=8 << 7) == first
    assert bank.voice(FLUTE, 60, is_drum=False, bank=16 << 7) == first + 1
    plain = taught.with_openings(None).with_key_levels(None)
    np.testing.assert_array_equal(attack(bank, first), attack(plain, ORGAN))
    for own in (VIOLIN, FLUTE, ORGAN, OBOE):
        np.testing.assert_array_equal(attack(bank, own), attack(taught, own))
        assert bank.repeats_from(own) == taught.repeats_from(own)
        np.testing.assert_array_equal(bank.courses.at(own, 61.0), taught.courses.at(own, 61.0))


def test_it_has_its_own_key_levels_opening_rise_and_course(taught):
    own = dataclasses.replace(copies(taught, (ORGAN, OBOE)), wavers=None)
    bank, bare = taught.with_variations(own), taught.with_openings(None).with_key_levels(None)
    other = len(taught.table.kind) + 1
    loud = attack(bare, OBOE)[-1] > 20
    moved = (attack(bank, other) - attack(bare, OBOE))[-1][loud][:10]
    np.testing.assert_allclose(moved, -1, atol=0.01)  # 4 levels less, 2 more while it opens, and 1 while it rises
    assert bank.repeats_from(other) == 2 and bank.courses.at(other, 60.0)[3, 5] == -3
    assert bank.courses.at(other - 1, 60.0) is None


def test_it_wavers_is_turned_and_ends_by_itself(taught):
    own = copies(taught, (ORGAN, OBOE))
    bank, still = taught.with_variations(own), taught.with_variations(dataclasses.replace(own, wavers=None))
    first, other = len(taught.table.kind) + np.arange(2)
    for voice, moved in ((first, 0), (other, 1)):
        levels, plain = (held_chunks(b, voice, np.array([60]), 90, 1)[1][0, 10] for b in (bank, still))
        loud = (plain > 20) & (plain < 60)
        np.testing.assert_allclose((levels - plain)[loud], moved, atol=0.01)
    cells = np.arange(4)
    assert not bank.sides.turns(first, 60, cells).any() and (np.abs(bank.sides.turns(other, 60, cells)) > 0.2).all()
    np.testing.assert_array_equal(bank.sides.turns(0, 43, cells), taught.sides.turns(0, 43, cells))
    np.testing.assert_array_equal(attack(bank, other, 90), attack(bank, other, 99))
    assert (attack(bank, first, 90) != attack(bank, first, 99)).any()
    longer = Wavers.of([None, Wavering(np.array([60], np.uint8), np.zeros((1, 9, tk.N_CELLS), np.int8))])
    with pytest.raises(BankError, match="waver for another time than others"):
        taught.with_variations(dataclasses.replace(own, wavers=longer))


def test_a_learnt_voice_that_plays_the_program_does_not_lead_its_variation(taught):
    flute = find_voice("alto-sax")
    about = flute.about | {"program": str(FLUTE + 1)}
    varied = taught.with_variations(copies(taught, (ORGAN, OBOE)))
    bank = varied.with_defaults([dataclasses.replace(flute, about=about)])
    other = bank.voice(FLUTE, 60, is_drum=False, bank=16 << 7)
    assert other == len(taught.table.kind) + 1
    assert bank.voice(FLUTE, 60, is_drum=False) == len(varied.table.kind) != other
    assert bank.voice(FLUTE, 60, is_drum=False, bank=24 << 7) == len(varied.table.kind)
    np.testing.assert_array_equal(attack(bank, other), attack(varied, other))
    np.testing.assert_array_equal(bank.courses.at(other, 60.0), varied.courses.at(other, 60.0))


def test_what_is_saved_is_what_is_loaded_and_some_can_be_chosen(taught, tmp_path):
    own = copies(taught, (ORGAN, OBOE))
    own.save(tmp_path / FILE)
    again = Variations.load(tmp_path / FILE)
    assert (again.places, again.names) == (own.places, own.names)
    banks = [taught.with_variations(v) for v in (own, again)]
    last = taught.with_variations(again.chosen(np.array([1])))
    for n in range(2):
        np.testing.assert_array_equal(*(attack(bank, N_VOICES + n) for bank in banks))
    np.testing.assert_array_equal(attack(last, N_VOICES), attack(banks[0], N_VOICES + 1))
    assert last.kits.names == {(16, FLUTE): "Other"} and last.repeats_from(N_VOICES) == 2
    assert (
        last.additions.wavers.has(N_VOICES) and last.sides.has(N_VOICES) and last.taught.keys(N_VOICES) == range(40, 91)
    )
    assert again.wavers.first.tolist() == again.sides.first.tolist() == [-1, 0]
    both = Variations.joined([own, again.chosen(np.array([1]))])
    assert both.wavers.first.tolist() == [-1, 0, 1] and both.taught.keys(2) == range(40, 91)


def test_a_file_from_before_they_wavered_has_none_of_it(taught, tmp_path):
    path = tmp_path / FILE
    copies(taught, (ORGAN, OBOE)).save(path)
    kept = {k: v for k, v in load_file(path).items() if k.split(".")[0] not in ("wavers", "sides", "taught")}
    save_file(kept, path, {"names": "One\nOther"})
    bank = taught.with_variations(Variations.load(path))
    assert not bank.additions.wavers.has(N_VOICES + 1) and not bank.sides.has(N_VOICES + 1)
    assert bank.taught.keys(N_VOICES + 1) == LEARNT_PITCHES


def test_a_file_from_before_rises_has_none(taught, tmp_path):
    path = tmp_path / FILE
    copies(taught, (ORGAN, OBOE)).save(path)
    kept = {k: v for k, v in load_file(path).items() if not k.startswith("rises.")}
    save_file(kept, path, {"names": "One\nOther"})
    older = Variations.load(path)
    assert older.rises.first.tolist() == [-1, -1] and older.openings.first.tolist() == [-1, 0]


def damaged(arrays):
    yield {k: v for k, v in arrays.items() if k != "places"}, "has no places"
    yield arrays | {"places": arrays["places"][[0, 0]]}, "does not say what each of its 2 voices is"
    yield arrays | {"places": arrays["places"] * np.array([0, 1], np.uint8)}, "does not say what each"
    yield arrays | {"places": arrays["places"] + np.array([0, 99], np.uint8)}, "places has values from"
    yield arrays | {"told.embeddings": arrays["told.embeddings"][:1]}, "told.embeddings is of shape [1"
    yield arrays | {"courses.row": np.array([0, 3], np.int16)}, "row names courses that are not there"
    yield arrays | {"openings.first": np.array([-1, 9], np.int32)}, "names keys that are not there"
    yield arrays | {"rises.power": arrays["rises.power"][:0], "rises.cells": arrays["rises.cells"][:0]}, "names keys"
    yield arrays | {"wavers.top": arrays["wavers.top"][:0], "wavers.moves": arrays["wavers.moves"][:0]}, "names keys"
    yield arrays | {"sides.turn": arrays["sides.turn"][:0]}, "names keys that are not there"
    yield arrays | {"taught.highest": arrays["taught.lowest"][::-1] - np.array([0, 18], np.uint8)}, "taught.highest has"
    yield arrays | {"keys.levels": arrays["keys.levels"][:0]}, "names keys that are not there"
    yield {k: v for k, v in arrays.items() if k != "table.kind"}, "has no table.kind"
    yield arrays | {"colour": np.zeros(3)}, "holds colour"


def test_a_file_that_does_not_go_together_is_one_line(taught, tmp_path):
    path = tmp_path / FILE
    copies(taught, (ORGAN, OBOE)).save(path)
    arrays = load_file(path)
    for wrong, said in damaged(arrays):
        save_file({k: np.ascontiguousarray(v) for k, v in wrong.items()}, path, {"names": "One\nOther"})
        with pytest.raises(BankError) as refused:
            Variations.load(path)
        assert str(path) in str(refused.value) and said in str(refused.value) and "\n" not in str(refused.value)
    save_file(arrays, path, {"names": "One"})
    with pytest.raises(BankError, match="does not say what each"):
        Variations.load(path)


# the bank's own


def test_each_of_the_banks_own_sounds_unlike_what_plays_its_program(gm):
    """As a bank number that is lost on the way, or rows that were mixed up, would make them."""
    assert len(gm.kits.names) >= 25 and len(set(gm.kits.names.values())) == len(gm.kits.names)
    for number, own in gm.kits.names:
        voice, plain = (gm.voice(own, 60, is_drum=False, bank=bank << 7) for bank in (number, 0))
        assert voice not in (plain, own), (number, own)
        several = np.array([45, 57, 69])
        ours, theirs = (
            np.concatenate(held_chunks(gm, v, several, 90, 1), axis=1)[..., : tk.PITCH_CELL]
            + gm.table.trim_db[v, several][:, None, None] / tk.LEVEL_STEP_DB
            for v in (voice, plain)
        )
        assert np.abs(ours - theirs).mean() > 0.5, (number, own)


def test_all_of_them_have_what_a_taught_voice_has(gm):
    for number, own in gm.kits.names:
        voice = gm.voice(own, 60, is_drum=False, bank=number << 7)
        assert gm.additions.key_levels.first[voice] >= 0 and gm.courses.row[voice] >= 0, (number, own)
        assert np.ptp(gm.table.trim_db[voice]) > 0, (number, own)


def test_info_knows_them_without_their_nets(gm):
    assert kits_of(bank_folder("gm")).names == gm.kits.names


def levels_at(sound, moments):
    around = [sound[:, int((m - 0.5) * RATE) : int((m + 0.5) * RATE)] for m in moments]
    return np.array([10 * np.log10(np.square(piece).sum() / (2 * RATE) + 1e-12) for piece in around])


def test_what_neither_rises_nor_falls_by_fifteen_seconds_is_there_after_half_a_minute(gm):
    lasting = 0
    for number, own in gm.kits.names:
        voice = gm.voice(own, 57, is_drum=False, bank=number << 7)
        levels = levels_at(play(gm, one_note_score(0, 57, 100, 31.0), voice=voice), [5.0, 10.0, 15.0, 30.0])
        if np.ptp(levels[:3]) < 0.5 and levels[0] > -70:
            lasting += 1
            assert np.ptp(levels) < 4, (number, own, levels)
    assert lasting >= 8


def song(msb, lsb=0, number=24):
    events = [(0, control(0, msb)), (0, control(32, lsb)), (0, program(number)), (0, on(60)), (480, off(60))]
    return smf(track(*events, end=480))


def sounds_alike(bank, *songs):
    sounds = [play(bank, read_score(one)) for one in songs]
    return sounds[0].shape == sounds[1].shape and bool((sounds[0] == sounds[1]).all())


def test_a_file_gets_the_variation_that_it_asks_for_however_it_calls_it(gm):
    ukulele = song(8)
    for same in (song(121, 1), song(0, 96), song(8, 3)):
        assert sounds_alike(gm, ukulele, same)
    for other in (song(0), song(16), song(121, 2), song(0, 35), song(121)):
        assert not sounds_alike(gm, ukulele, other)
    assert sounds_alike(gm, song(0), song(16))  # which is not there, and is told


def test_what_plays_and_what_is_lacking_is_told(gm, tmp_path):
    assert missing_sounds(read_score(song(8)).tracks, gm.kits) == ()
    (line,) = missing_sounds(read_score(song(16)).tracks, gm.kits)
    assert line == "variation 16 of program 25: not in this bank, Nylon Guitar plays instead, 1 note"
    for msb, said in ((8, ["Ukulele (of Nylon Guitar)"]), (0, []), (16, [])):
        (tmp_path / "song.mid").write_bytes(song(msb))
        told = json.loads(CliRunner().invoke(app, ["info", str(tmp_path / "song.mid"), "--json"]).stdout)
        assert told["variations"] == said and bool(told["ignored"]) == (msb == 16)
    (tmp_path / "song.mid").write_bytes(song(8))
    assert (
        "variations: Ukulele (of Nylon Guitar)" in CliRunner().invoke(app, ["info", str(tmp_path / "song.mid")]).stdout
    )


# finding and teaching them


def test_variations_are_what_sounds_unlike_their_program(monkeypatch):
    """Teacher: bank 8 of program 1 is that program itself, of program 2 the same 6 dB softer, of 3 another sound; of 4
    it is silent, and program 5 has none."""
    random = np.random.default_rng(0)
    tone, noise = np.sin(np.arange(8000) / 20) * np.ones((2, 1)), random.normal(0, 0.1, (2, 8000))

    class Teacher:
        def has(self, program, bank):
            return bank == 8 and program in (1, 2, 3, 4)

        def name(self, program, bank):
            return f"{bank} {program}"

    def rendered(font, source, pitch, velocity, seconds):
        if not source.bank:
            return tone
        return {1: tone, 2: 0.5 * tone, 3: noise, 4: 0 * tone}[source.program]

    monkeypatch.setattr("miao.datasets.kits.render", rendered)
    found = datasets.find_variations(Teacher())
    assert [(v.source, v.name) for v in found] == [(Source(2, 8), "8 2"), (Source(3, 8), "8 3")]
    assert datasets.numbered(found) == {N_VOICES: Source(2, 8), N_VOICES + 1: Source(3, 8)}


def test_the_list_is_kept_beside_the_notes(tmp_path):
    assert datasets.load_variations(tmp_path) is None
    found = [datasets.Variation(Source(24, 8), "Ukulele")]
    datasets.save_variations(found, tmp_path)
    assert datasets.load_variations(tmp_path) == found
    (tmp_path / datasets.FOLDER / datasets.FILE).write_text("[{}]")
    with pytest.raises(DataError, match="not a list of variations"):
        datasets.load_variations(tmp_path)
    with pytest.raises(DataError, match="no notes of variations"):
        training.teach_variations("gm", tmp_path / "none.sf2", tmp_path / "other", lambda done: None)


def test_notes_of_variations_are_few_and_none_is_held_out():
    rng = np.random.default_rng(0)
    notes = draw_notes(Source(24, 8), 0, rng)
    assert 50 <= len(notes) <= 70 and draw_notes(Source(24, 8), 1, rng) == []
    assert not {pitch for pitch, _, _ in notes} & {38, 50, 62, 74, 86}
    assert max(hold for _, _, hold in notes) > 2 > min(hold for _, _, hold in notes)


def test_a_variation_that_its_program_comes_nearer_to_is_that_program_as_loud_as_it_is(taught, monkeypatch):
    """The first is learnt better, to the second its program comes nearer once it is 5 dB softer."""
    own, errors = copies(taught, (ORGAN, OBOE)), iter([2.0, 3.0, 2.5, 2.5])
    monkeypatch.setattr(training, "SoundFont", lambda path: None)
    monkeypatch.setattr(training, "off_by_sound", lambda font, bank, voice, source: 5.0)
    monkeypatch.setattr(training, "checked_error", lambda font, bank, voice, source: next(errors))
    voices = {N_VOICES: Source(VIOLIN, 8), N_VOICES + 1: Source(FLUTE, 16)}
    bank = taught.with_variations(training.with_programs(taught, own, None, voices))
    assert bank.kits.programs == {(8, VIOLIN): N_VOICES, (16, FLUTE): N_VOICES + 1}
    np.testing.assert_array_equal(attack(bank, N_VOICES), attack(taught.with_variations(own), N_VOICES))
    np.testing.assert_array_equal(attack(bank, N_VOICES + 1), attack(taught, FLUTE))
    np.testing.assert_allclose(bank.table.trim_db[N_VOICES + 1], taught.table.trim_db[FLUTE] - 5, atol=1e-5)
    np.testing.assert_array_equal(bank.courses.at(N_VOICES + 1, 60.0), taught.courses.at(FLUTE, 60.0))


def test_a_variation_that_is_far_and_no_nearer_than_its_program_is_left_out(taught, monkeypatch):
    """Errors by voice: the first is far, but nearer than its program; the second is further."""
    errors = {N_VOICES: 6.0, VIOLIN: 7.0, N_VOICES + 1: 6.0, FLUTE: 5.5}
    monkeypatch.setattr(training, "SoundFont", lambda path: None)
    monkeypatch.setattr(training, "checked_error", lambda font, bank, voice, source: errors[voice])
    own = copies(taught, (ORGAN, OBOE))
    voices = {N_VOICES: Source(VIOLIN, 8), N_VOICES + 1: Source(FLUTE, 16)}
    assert training.worth(taught, own, None, voices) == [True, False]
    errors[N_VOICES + 1] = 4.9
    assert training.worth(taught, own, None, voices) == [True, True]
