"""Learnt voices as files, in banks, in renderings and on the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import rounding
from typer.testing import CliRunner

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.defaults import program_of
from miao.bank.learnt_voice import (
    N_INDICES,
    STEP_KNOTS,
    Correction,
    LearntVoice,
    find_voice,
    knot_weights,
    voice_paths,
    voices_folder,
)
from miao.bank.voices import HARMONIC, N_VOICES, PITCH_NODES, VoiceEmbeddings, VoiceTable, balance_of, is_drum_voice
from miao.cli.main import app
from miao.errors import BankError, ConfigError
from miao.measuring.voice_fit import VoiceFit
from miao.midi.score import read_score
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems
from miao.synth.synthesizer import Synthesizer


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


def correction(level=0.0, by_velocity=0.0):
    tables = []
    for n, knots in zip(N_INDICES, STEP_KNOTS, strict=True):
        table = np.zeros((n, len(knots), 2, PITCH_NODES, tk.N_CELLS), np.float16)
        table[:, :, 0, :, : tk.PITCH_CELL], table[:, :, 1, :, : tk.PITCH_CELL] = level, by_velocity
        tables.append(table)
    return Correction(tuple(tables), 0.5)


def copy_of(bank, program, level=0.0, **about):
    """A learnt voice that is a program of the bank, so many levels louder."""
    own = slice(program, program + 1)
    known = VoiceEmbeddings(bank.embeddings.embeddings[own], bank.embeddings.profiles[:, own])
    rows = {name: getattr(bank.table, name) for name in VoiceTable.__dataclass_fields__}
    modes = rows.pop("modes")
    row = int(rows["mode_row"][program])
    table = VoiceTable(modes=modes[row : row + 1] if row >= 0 else modes[:0], **{k: v[own] for k, v in rows.items()})
    table = replace(table, mode_row=np.array([0 if row >= 0 else -1], np.int16))
    facts = {"name": "copy", "bank": "gm", "nets": bank.nets_checksum, "licence": "CC0-1.0"} | about
    return LearntVoice(table, known, correction(level), facts, key_levels=bank.additions.key_levels.alone(program))


def test_a_table_that_was_written_is_the_same_and_drums_take_no_room_for_each_pitch(gm, tmp_path):
    gm.table.save(tmp_path / "voices.safetensors")
    again = VoiceTable.load(tmp_path / "voices.safetensors")
    for name in VoiceTable.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(gm.table, name), name)
    n_bytes = sum(getattr(again, name).nbytes for name in VoiceTable.__dataclass_fields__)
    assert (tmp_path / "voices.safetensors").stat().st_size < 0.7 * n_bytes


def test_a_voice_file_gives_back_what_was_saved(gm, tmp_path):
    voice = copy_of(gm, 40, 1.5, origin="here")
    voice.save(tmp_path / "copy.safetensors")
    again = LearntVoice.load(tmp_path / "copy.safetensors")
    assert voice.about.items() <= again.about.items()
    for name in VoiceTable.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again.table, name), getattr(voice.table, name))
    np.testing.assert_array_equal(again.embeddings.profiles, voice.embeddings.profiles)
    for ours, theirs in zip(again.correction.levels, voice.correction.levels, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [p.name for p in tmp_path.iterdir()] == ["copy.safetensors"], "no temporary file is left"


def test_a_voice_that_is_saved_again_is_the_same_file(gm, tmp_path):
    voice = copy_of(gm, 40, 1.5, origin="hier, où l'on joue", licence='"free"', miao="0.2", n_notes="12", place="a\\b")
    voice.save(tmp_path / "first.safetensors")
    first = (tmp_path / "first.safetensors").read_bytes()
    assert int.from_bytes(first[:8], "little") % 8 == 0
    for _ in range(5):
        LearntVoice.load(tmp_path / "first.safetensors").save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == first


def first_of(bank):
    """The number of the first voice behind those of a bank."""
    return len(bank.table.kind)


def test_a_copy_of_a_program_sounds_as_the_program(gm):
    gm = replace(gm.with_openings(None), sides=None)  # which are the program's alone
    for program in (1, 9):  # harmonics, free modes
        score = read_score_of(program)
        bank = gm.with_voices([copy_of(gm, program)])
        ours = np.concatenate([b.stems for b in stream_stems(bank, score, voices={0: first_of(gm)})], axis=2)
        theirs = np.concatenate([b.stems for b in stream_stems(gm, score)], axis=2)
        np.testing.assert_array_equal(ours, theirs)


def read_score_of(program, seconds=1.0):
    from conftest import make_midi

    return read_score(make_midi({"notes": [(0, seconds, 64, 90), (0.5, seconds, 71, 60)], "program": program}))


def test_a_correction_makes_a_voice_that_much_louder(gm):
    score = read_score_of(75)
    loud = gm.with_voices([copy_of(gm, 75, 2.0)])
    powers = []
    for bank, voices in ((gm, None), (loud, {0: first_of(gm)})):
        sound = np.concatenate([b.stems[0] for b in stream_stems(bank, score, voices=voices)], axis=1)
        powers.append(10 * np.log10(np.square(sound[:, 2000:6000]).sum()))
    # the attack is 2 levels higher, as nothing goes before it
    assert powers[1] - powers[0] == pytest.approx(2 * tk.LEVEL_STEP_DB, abs=0.6)


def test_a_correction_follows_velocity_from_the_middle_on_and_runs_straight_between_its_knots():
    moved = correction(1.0, 4.0).applied(
        tk.ATTACK, np.full((2, tk.CHUNK_STEPS, tk.N_CELLS), 20.0, np.float32), np.array([60.0, 61.0]),
        np.array([0.5, 1.0]), np.array([0, 0]))  # fmt: skip
    np.testing.assert_allclose(moved[0, :, 0], 21)
    np.testing.assert_allclose(moved[1, :, 0], 23)
    np.testing.assert_allclose(moved[:, :, tk.PITCH_CELL], 20)
    for kind in range(3):
        np.testing.assert_allclose(knot_weights(kind).sum(axis=1), 1)


def test_a_release_ends_soon_after_the_longest_that_was_heard():
    short = replace(correction(), release_seconds=0.4)
    levels = np.full((2, tk.CHUNK_STEPS, tk.N_CELLS), 30.0, np.float32)
    at = (np.array([60.0, 60.0]), np.array([0.5, 0.5]), np.array([0, 1]))
    moved = short.applied(tk.RELEASE, levels, *at)
    np.testing.assert_array_equal(moved[0], 30)
    np.testing.assert_array_equal(moved[1, :9, 0], 30)
    assert moved[1, 20, 0] == pytest.approx(18) and moved[1, 20, tk.PITCH_CELL] == 30
    np.testing.assert_array_equal(short.applied(tk.SUSTAIN, levels, *at), levels)


@pytest.mark.parametrize("pitch", [0, 1, 125, 126, 127])
def test_the_outermost_pitches_are_played(gm, pitch):
    own = gm.embeddings.at(tk.ATTACK, np.array([5]), np.array([float(pitch)]))
    assert all(np.isfinite(table).all() for table in own)
    nearest = gm.embeddings.embeddings[5, 0 if pitch < 2 else -1].astype(np.float32)
    if pitch in (0, 126, 127):
        np.testing.assert_allclose(own[0][0], nearest, atol=1e-3)
    levels = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), 20.0, np.float32)
    at = (np.array([float(pitch)]), np.array([0.5]), np.array([0]))
    assert correction(1.0).applied(tk.SUSTAIN, levels, *at)[0, 0, 0] == 21


def test_learnt_voices_are_no_drums_and_stand_behind_those_of_the_bank(gm):
    bank = gm.with_voices([copy_of(gm, 5), copy_of(gm, 9)])
    assert len(bank.table.kind) == first_of(gm) + 2 and bank.added == ("copy", "copy")
    assert not is_drum_voice(N_VOICES) and is_drum_voice(N_VOICES - 1)
    np.testing.assert_array_equal(bank.table.partials(first_of(gm) + 1, 60).ratios, gm.table.partials(9, 60).ratios)
    assert gm.with_voices([]) is gm


def test_a_voice_for_other_nets_is_refused(gm):
    with pytest.raises(BankError, match="learnt for other nets"):
        gm.with_voices([copy_of(gm, 5, nets="0123456789ab")])


def test_a_bank_without_nets_cannot_be_given_voices(toy_bank, gm):
    with pytest.raises(BankError, match="cannot be given voices"):
        toy_bank.with_voices([copy_of(gm, 5)])


def test_a_voice_changes_its_track_and_no_other(gm, midi):
    score = read_score(midi({"notes": [(0, 1, 60, 90), (0.5, 1.5, 64, 90)]},
                            {"notes": [(0, 1, 60, 90)], "channel": 1},
                            {"notes": [(0.2, 0.4, 38, 90)], "channel": 9}))  # fmt: skip
    bank = gm.with_voices([copy_of(gm, 73)])
    plain = np.concatenate([b.stems for b in stream_stems(gm, score)], axis=2)
    changed = np.concatenate([b.stems for b in stream_stems(bank, score, voices={1: first_of(gm)})], axis=2)
    n = min(plain.shape[2], changed.shape[2])
    # to a rounding, as batches for the nets are put together of other notes
    np.testing.assert_allclose(plain[[0, 2], :, :n], changed[[0, 2], :, :n], rtol=0, atol=rounding())
    assert np.abs(plain[1, :, :n] - changed[1, :, :n]).max() > 0.01


@pytest.mark.parametrize("voice", [0, 24, 40, "learnt"])
def test_voices_vary_a_little_and_no_more(gm, midi, voice):
    score = read_score(midi({"notes": [(t / 4, t / 4 + 0.2, 60, 90) for t in range(8)]}))
    bank = gm.with_voices([copy_of(gm, 73)])
    voice = first_of(gm) if voice == "learnt" else voice
    plain, varied = (
        np.concatenate(
            [b.stems[0] for b in stream_stems(bank, score, PlaySettings(variation=x), voices={0: voice})], axis=1
        )
        for x in (0.0, 1.0)
    )
    powers = [np.square(s[:, : 8 * 11_025]).reshape(2, 8, -1).sum(axis=(0, 2)) for s in (plain, varied)]
    assert 0.05 < np.abs(10 * np.log10(powers[1] / powers[0])).max() < 6


def test_a_drum_track_with_a_voice_is_played_as_notes(gm, midi):
    score = read_score(midi({"notes": [(0, 0.5, 60, 90)], "channel": 9}, {"notes": [(0, 0.5, 60, 90)]}))
    bank = gm.with_voices([copy_of(gm, 19)])
    stems = np.concatenate(
        [b.stems for b in stream_stems(bank, score, voices={0: first_of(gm), 1: first_of(gm)})], axis=2
    )
    levels = np.abs(stems).max(axis=1)
    assert levels[0, 4410:20_000].max() == pytest.approx(levels[1, 4410:20_000].max(), rel=0.2)


def test_the_synthesizer_takes_names_and_files(gm, midi, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    gm, voice = gm.with_openings(None).with_wavers(None), copy_of(gm, 75)  # these are the program's alone
    voice.save(voices_folder() / "copy.safetensors")
    song, synthesizer = midi({"notes": [(0, 0.3, 60, 90)]}), Synthesizer(gm)
    pipes = midi({"notes": [(0, 0.3, 60, 90)], "program": 75})
    wanted = synthesizer.render(pipes, end=0.3).samples
    for named in ("copy", voices_folder() / "copy.safetensors", voice):
        np.testing.assert_array_equal(synthesizer.render(song, end=0.3, voices={1: named}).samples, wanted)
    with pytest.raises(ConfigError, match="no track 2; the song has tracks 1 to 1"):
        synthesizer.render(song, voices={2: "copy"})
    with pytest.raises(BankError, match=r'no voice "none".*copy'):
        synthesizer.render(song, voices={1: "none"})


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "other"])
def test_a_file_that_is_no_voice_is_named(gm, tmp_path, damage):
    path = tmp_path / "voice.safetensors"
    if damage == "text":
        path.write_text("no voice")
    elif damage == "cut":
        copy_of(gm, 3).save(path)
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "other":
        copy_of(gm, 3).embeddings.save(path)
    with pytest.raises(BankError, match=r"voice\.safetensors: not a"):
        LearntVoice.load(path)


def test_a_voice_of_other_shapes_is_refused(gm, tmp_path):
    voice = copy_of(gm, 3)
    small = replace(voice, embeddings=VoiceEmbeddings(voice.embeddings.embeddings[:, :5], voice.embeddings.profiles))
    small.save(tmp_path / "small.safetensors")
    with pytest.raises(BankError, match=r"embeddings is of shape \[1, 5, 128\], not \[1, 43, "):
        LearntVoice.load(tmp_path / "small.safetensors")
    replace(voice, table=VoiceFit(HARMONIC).table()).save(tmp_path / "whole.safetensors")
    LearntVoice.load(tmp_path / "whole.safetensors")


@pytest.mark.parametrize("name", sorted(voice_paths()))
def test_a_shipped_voice_fits_the_bank_and_says_where_it_comes_from(gm, name):
    voice = find_voice(name)
    gm.with_voices([voice])
    assert voice.name == name
    assert all(voice.about[key] for key in ("licence", "origin", "instrument", "n_notes", "held_out_db", "miao"))
    assert float(voice.about["held_out_before_db"]) - float(voice.about["held_out_db"]) >= 2
    assert voice_paths()[name].stat().st_size < 600_000


# the command


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def own_voices(gm, tmp_path):
    folder = tmp_path / "own"
    copy_of(gm, 75, instrument="pipes").save(folder / "copy.safetensors")
    return folder


def test_voices_are_listed_shown_exported_and_imported(own_voices, tmp_path):
    listed = run("voices", "list", "--voices", own_voices)
    assert listed.exit_code == 0 and "copy" in listed.stdout and "pipes" in listed.stdout
    shown = json.loads(run("voices", "show", "copy", "--voices", own_voices, "--json").stdout)
    assert shown["licence"] == "CC0-1.0"
    assert "pipes" in run("voices", "show", "copy", "--voices", own_voices).stdout
    file = tmp_path / "out.safetensors"
    assert run("voices", "export", "copy", "-o", file, "--voices", own_voices).exit_code == 0
    assert run("voices", "import", file, "--name", "second", "--voices", own_voices).exit_code == 0
    assert find_voice("second", own_voices).name == "second"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["voices", "show", "nothing"], 'no voice "nothing"; there are'),
        (
            ["voices", "export", "copy", "-o", "{own}/copy.safetensors", "--voices", "{own}"],
            "exists; --force overwrites it",
        ),
        (["voices", "import", "{own}/copy.safetensors", "--name", "a/b"], 'cannot be called "a/b"'),
        (["voices", "import", "{own}/gone.safetensors"], "not a readable safetensors file"),
        (["render", "{song}", "--voice", "1"], 'say a track and a voice, such as "1=alto-sax"'),
        (["render", "{song}", "--voice", "3=copy", "--voices", "{own}"], "no track 3; the tracks played are 1"),
        (["render", "{song}", "--voice", "1=none", "--voices", "{own}"], 'no voice "none"'),
    ],
)
def test_mistakes_are_told_in_one_line(own_voices, tmp_path, midi, arguments, says):
    song = tmp_path / "song.mid"
    song.write_bytes(midi({"notes": [(0, 0.3, 60, 90)]}))
    result = run(*[str(a).format(own=own_voices, song=song) for a in arguments])
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("miao: ")]
    assert len(lines) == 1 and says in lines[0]


def test_a_song_is_rendered_with_a_voice(gm, own_voices, tmp_path, midi):
    song, flute = tmp_path / "song.mid", next(v for v in gm.defaults if program_of(v) == 73)
    flute.save(own_voices / "flute.safetensors")
    notes = {"notes": [(0, 0.3, 60, 90)]}
    song.write_bytes(midi(notes | {"program": 10}, notes | {"channel": 1}))
    tracks = ["--tracks", "2", "--voice", "2=flute", "--voices", own_voices]
    assert run("render", song, "-o", tmp_path / "a.wav", *tracks).exit_code == 0
    song.write_bytes(midi(notes | {"program": 10}, notes | {"channel": 1, "program": 73}))
    assert run("render", song, "-o", tmp_path / "b.wav", "--tracks", "2").exit_code == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_a_left_share_of_the_power_is_a_gain_to_the_left(toy_bank):
    balance = toy_bank.table.balance.copy()
    balance[3, 60] = balance_of(0.9)
    left, right = replace(toy_bank.table, balance=balance).gains(3, 60)[0]
    # the table keeps shares in steps of 1/254
    assert left**2 == pytest.approx(2 * 0.9, abs=2 / 254) and right**2 == pytest.approx(2 * 0.1, abs=2 / 254)
    np.testing.assert_array_equal(toy_bank.table.gains(3, 60), 1)
