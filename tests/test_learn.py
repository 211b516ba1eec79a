"""Voices learnt from recordings: what names say, where notes start and end, and that learning helps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import rounding
from typer.testing import CliRunner

from miao.bank import tokens as tk
from miao.bank.learnt_voice import LearntVoice
from miao.bank.level_shift import set_out
from miao.bank.voices import HARMONIC, MODES, pitch_hz
from miao.cli.main import app
from miao.datasets.samples import (
    Recording,
    as_note,
    named_pitch,
    named_samples,
    named_velocity,
    read_samples,
)
from miao.datasets.sfz import sfz_regions, sfz_samples, sfz_text
from miao.datasets.single_note import find_onset, find_release, heard_pitch
from miao.datasets.voice_notes import voice_notes
from miao.datasets.voice_sources import music_recordings, pairs_in, recordings_from
from miao.errors import DataError
from miao.measuring.roundtrip import one_note_score, play
from miao.sound.audio import Audio
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error

NOTES = Path(__file__).resolve().parents[2] / "shared" / "data" / "notes"
needs_notes = pytest.mark.skipif(not NOTES.is_dir(), reason="the recorded notes are not here")


def tone(pitch, seconds=1.0, lead=0.0, release=0.1, decay_db=0.0, harmonics=(1.0, 0.3, 0.5, 0.1), seed=0):
    """A note of a few harmonics with a soft hiss: silence, a rise of 5 ms, a fall while held, a fall when let go."""
    n, hz = int(seconds * SAMPLE_RATE), float(pitch_hz(pitch))
    time = np.arange(n + int(release * SAMPLE_RATE)) / SAMPLE_RATE
    wave = sum(a * np.sin(2 * np.pi * hz * k * time + k) for k, a in enumerate(harmonics, start=1))
    db = -decay_db * time - 60 * np.clip((time - seconds) / max(release, 1e-9), 0, None)
    sound = 0.2 * wave * 10 ** (db / 20) * np.minimum(time / 0.005, 1)
    sound = np.concatenate([np.zeros(int(lead * SAMPLE_RATE)), sound])
    return (sound + 1e-5 * np.random.default_rng(seed).normal(size=len(sound)))[None].astype(np.float32)


@pytest.mark.parametrize(
    ("name", "pitch", "velocity"),
    [
        ("cello_A2_1_forte_arco-normal", 45, 96),
        ("cello_As5_very-long_mezzo-piano_arco-normal", 82, 64),
        ("bassoon_Cs3_025_pianissimo_normal", 49, 33),
        ("a2_f_rr1_cnd", 45, 96),
        ("bb3_p_rr1_cnd", 58, 49),
        ("b2_f_rr1_cnd", 47, 96),
        ("arco_eb1_pp_down", 27, 33),
        ("pizz_f2_fd", 41, 96),
        ("A#4", 70, None),
        ("Gb3 mf", 54, 80),
        ("piano_C4_forte", 60, 96),
        ("Piano C-1 v100", 0, 100),
        ("note_60_vel32", 60, 32),
        ("72", 72, None),
        ("D#4v16", 63, None),
        ("a0_s_vl3_rr1_dyn", 21, None),
        ("kick", None, None),
    ],
)
def test_names_say_pitch_and_velocity(name, pitch, velocity):
    assert (named_pitch(name), named_velocity(name)) == (pitch, velocity)


def write(path, sound):
    path.parent.mkdir(parents=True, exist_ok=True)
    Audio(sound, SAMPLE_RATE).save(path)


def test_numbered_layers_lie_evenly_however_they_are_called(tmp_path):
    for form in ("c{}_s_vl1_rr1.wav", "c{}_s_vl3_rr1.wav", "D{}v1.wav", "D{}v16.wav"):
        write(tmp_path / form.split("_")[-1][:2] / form.format(4), tone(60, 0.3))
    few, many = (named_samples(tmp_path, pattern)[0] for pattern in ("c4*", "d4*"))
    assert sorted(s.velocity for s in few) == sorted(s.velocity for s in many) == [40, 112]


def test_files_that_cannot_be_used_are_named(tmp_path):
    for name in ("x_C4_v1.wav", "x_C4_v3.wav", "x_D4_v2.wav", "x_E4_cresc.wav", "kick.wav"):
        write(tmp_path / name, tone(60, 0.3))
    samples, left_out = named_samples(tmp_path)
    assert {(s.path.name, s.velocity) for s in samples} == {
        ("x_C4_v1.wav", 40), ("x_C4_v3.wav", 112), ("x_D4_v2.wav", 76)}  # fmt: skip
    assert sorted(line.split(":")[0] for line in left_out) == ["kick.wav", "x_E4_cresc.wav"]
    assert len(named_samples(tmp_path, "*_v1*")[0]) == 1
    with pytest.raises(DataError, match="no sound files that are called pizz"):
        named_samples(tmp_path, "pizz*")


def test_names_an_octave_off_are_taken_as_heard_and_a_wrong_one_is_named(tmp_path):
    for name, pitch in (("c3", 60), ("d3", 62), ("e3", 64), ("g3", 67), ("a3", 70)):
        write(tmp_path / f"{name}_f.wav", tone(pitch, 0.5))
    recordings, remarks = read_samples(named_samples(tmp_path)[0])
    assert sorted(r.pitch for r in recordings) == [60, 62, 64, 67]
    assert "+12 semitones" in remarks[0]
    assert remarks[1] == "a3_f.wav: sounds +1.0 semitones from its name"


@pytest.mark.parametrize("pitch", [28, 45, 60, 83])
def test_pitch_is_heard(pitch):
    assert heard_pitch(tone(pitch + 0.2)) == pytest.approx(pitch + 0.2, abs=0.05)
    weak = tone(pitch, harmonics=(0.05, 1, 0.8, 0.6, 0.5))
    assert heard_pitch(weak) == pytest.approx(pitch, abs=0.05), "though the fundamental is weak"


@pytest.mark.parametrize("lead", [0.0, 0.05, 0.5])
def test_the_onset_is_found_to_some_milliseconds(lead):
    assert find_onset(tone(57, lead=lead)) / SAMPLE_RATE == pytest.approx(lead, abs=0.004)


def test_a_note_that_is_let_go_was_held_until_then():
    hold, is_released = find_release(tone(57, 1.5, release=0.3))
    assert is_released and hold == pytest.approx(1.5, abs=0.06)
    hold, is_released = find_release(tone(57, 1.5, release=0.3, decay_db=8))
    assert is_released and hold == pytest.approx(1.5, abs=0.06)


def test_a_string_that_rings_out_is_held_to_its_end():
    hold, is_released = find_release(tone(57, 4.0, release=0.0, decay_db=20))
    assert not is_released and hold > 2.8


def test_a_note_that_is_cut_off_is_held_to_its_end():
    hold, is_released = find_release(tone(57, 1.0, release=0.0))
    assert not is_released and hold == pytest.approx(1.0, abs=0.03)


def note_of(sound):
    return as_note("a note", 57, 90, np.asarray(sound, np.float32)[None] if np.ndim(sound) == 1 else sound)


def test_a_string_that_still_rings_when_its_file_ends_is_held_to_the_end():
    hold, is_released = find_release(tone(57, 4.0, release=0.0, decay_db=9))  # 36 dB below its loudest
    assert not is_released and hold == pytest.approx(4.0, abs=0.05)


def test_a_note_begins_and_ends_where_it_is_heard_though_a_rumble_is_louder():
    seconds = np.arange(66_150) / SAMPLE_RATE
    rumble = 0.5 * np.sin(2 * np.pi * 40 * seconds)
    sounding = (seconds > 0.2) & (seconds < 1.2)
    note = np.sin(2 * np.pi * pitch_hz(72.0) * seconds) * np.where(sounding, 1, 10 ** (-200 * (seconds - 1.2) / 20))
    sound = (0.1 * note * (seconds > 0.2) + rumble).astype(np.float32)[None]
    alone = as_note("", 72, 90, sound)
    assert alone.is_released and alone.hold_seconds == pytest.approx(1.0, abs=0.05)


def test_what_sounds_again_behind_a_note_is_no_part_of_it():
    note = tone(57, 1.0, release=0.3)
    click = np.zeros((note.shape[0], SAMPLE_RATE // 2), np.float32)
    click[:, -4000:] = 0.2 * np.abs(note).max()
    with_click = note_of(np.concatenate([note, click], axis=1))
    assert with_click.is_released and with_click.hold_seconds == pytest.approx(1.0, abs=0.06)
    assert np.abs(with_click.sound[:, round(1.25 * SAMPLE_RATE) :]).max(initial=0.0) < 0.02 * np.abs(note).max()


def test_a_file_that_is_faded_out_ends_where_the_fade_begins():
    note = tone(57, 1.0, release=0.0, decay_db=3)
    n = round(0.06 * SAMPLE_RATE)
    note[:, -n:] *= 10 ** (np.linspace(0, -40, n) / 20).astype(np.float32)
    cut = note_of(note)
    assert not cut.is_released and cut.sound.shape[1] / SAMPLE_RATE == pytest.approx(0.95, abs=0.03)
    assert cut.hold_seconds == pytest.approx(cut.sound.shape[1] / SAMPLE_RATE)


def test_a_note_that_is_neither_let_go_nor_faded_keeps_its_whole_length():
    for note in (tone(57, 1.0, release=0.0), tone(57, 1.0, release=0.0, decay_db=30)):
        assert note_of(note).sound.shape[1] == pytest.approx(note.shape[1], abs=0.03 * SAMPLE_RATE)


SFZ = """
<control> default_path=sounds/
<global> ampeg_release=1 // a comment
<group> lovel=1 hivel=63
<region> key=60 sample=soft one.wav
<region>
 lokey=61 hikey=63 pitch_keycenter=c#4
 sample=other.wav
<group>
<region> pitch_keycenter=67 lokey=64 hikey=70 sample=loud.wav
<region> trigger=release key=60 sample=end.wav
<region> key=72 sample=gone.wav
"""


def test_an_sfz_file_says_where_its_samples_lie(tmp_path):
    (tmp_path / "x.sfz").write_text(SFZ)
    regions = list(sfz_regions(sfz_text(tmp_path / "x.sfz")))
    assert regions[0] == {"default_path": "sounds/", "ampeg_release": "1", "lovel": "1", "hivel": "63", "key": "60",
                          "sample": "soft one.wav"}  # fmt: skip
    (tmp_path / "sounds").mkdir()
    for name in ("soft one.wav", "other.wav", "loud.wav", "end.wav"):
        write(tmp_path / "sounds" / name, tone(60, 0.2))
    samples, left_out = sfz_samples(tmp_path / "x.sfz")
    assert [(s.path.name, s.pitch, s.velocity) for s in samples] == [
        ("soft one.wav", 60, 32), ("other.wav", 61, 32), ("loud.wav", 67, 96)]  # fmt: skip
    assert left_out == ["gone.wav: not there"]
    (tmp_path / "y.sfz").write_text("<region> key=60 sample=none.wav")
    with pytest.raises(DataError, match=r"names no samples that are there; none\.wav is missing"):
        sfz_samples(tmp_path / "y.sfz")


def test_an_sfz_file_may_be_written_as_users_write_them(tmp_path):
    (tmp_path / "Samples").mkdir()
    for name in ("C4.wav", "d4.wav", "E4.wav", "low.wav"):
        write(tmp_path / "Samples" / name, tone(60, 0.2))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "keys.txt").write_text("<region> key=$KEY Sample=$EXT\\d4.WAV volume=-6\n")
    (tmp_path / "a.sfz").write_text(
        "group=1 off_by=1\n#define $KEY 62\n#define $KEY2 $KEY0 // no comment\n#define $EXT samples\n"
        "<control> note_offset=12 /* up\nan octave */\n<group> trigger=first\n"
        '<region> key=48 sample=Samples/C4.wav\n#include "parts\\keys.txt"\n'
        "<region> pitch_keycenter=sample sample=samples\\e4.wav hivel=63\n<group> trigger=legato\n"
        "<region> key=20 sample=Samples/low.wav\n"
    )
    samples, left_out = sfz_samples(tmp_path / "a.sfz")
    assert [(s.path.name, s.pitch, s.velocity, s.gain_db) for s in samples] == [
        ("C4.wav", 60, 96, 0), ("d4.wav", 74, 96, -6), ("E4.wav", 64, 31, 0)]  # fmt: skip
    assert left_out == []
    soft, loud = (np.abs(read_samples([replace(samples[0], gain_db=gain)])[0][0].sound).max() for gain in (-6, 0))
    assert soft / loud == pytest.approx(10 ** (-6 / 20), rel=1e-4)


def test_sfz_files_that_include_each_other_or_nothing_are_named(tmp_path):
    (tmp_path / "a.sfz").write_text('#include "a.sfz"\n')
    with pytest.raises(DataError, match="included over and over"):
        sfz_samples(tmp_path / "a.sfz")
    (tmp_path / "b.sfz").write_text('#include "none.sfz"\n')
    with pytest.raises(DataError, match=r"b\.sfz: includes none\.sfz, which is not there"):
        sfz_samples(tmp_path / "b.sfz")


def test_notes_that_sound_alone_are_taken_out_of_music(tmp_path, midi):
    notes = [(0.5, 1.0, 60, 90), (2.0, 2.5, 64, 70), (2.2, 2.7, 67, 70), (4.0, 4.5, 62, 50), (6.0, 6.5, 65, 80)]
    sound = np.zeros((1, 8 * SAMPLE_RATE), np.float32)
    for start, end, pitch, _ in notes:
        heard = {62: 63}.get(pitch, pitch)  # one is played wrong
        piece = tone(heard, end - start, release=0.2)
        sound[:, int(start * SAMPLE_RATE) :][:, : piece.shape[1]] += piece
    write(tmp_path / "a.wav", sound)
    (tmp_path / "a.mid").write_bytes(midi({"notes": notes}))
    recordings, remarks = music_recordings(pairs_in(tmp_path))
    assert [(r.pitch, r.velocity) for r in recordings] == [(60, 90), (65, 80)]
    assert recordings[0].hold_seconds == pytest.approx(0.5, abs=0.01)
    assert remarks[0] == "2 of 5 notes sound alone and are learnt from"
    assert "pitch 62 sounds as 63.0" in remarks[1]
    assert len(recordings_from(tmp_path)[0]) == 2


@pytest.mark.parametrize(
    ("name", "says"), [("nothing", "no such file or folder"), ("x.txt", "give a folder of samples"), ("", "no sound")]
)
def test_what_cannot_be_learnt_from_is_told(tmp_path, name, says):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match=says):
        recordings_from(tmp_path / name)


def test_two_sfz_files_are_a_question(tmp_path):
    for name in ("a.sfz", "b.sfz"):
        (tmp_path / name).write_text("<region>")
    with pytest.raises(DataError, match=r"several \.sfz files \(a\.sfz, b\.sfz\)"):
        recordings_from(tmp_path)


# learning


def toy_recordings(pitches=range(55, 75, 2)):
    """An instrument that no bank has: only harmonics 1, 4 and 5, decaying; two strengths, the softer one duller."""
    found = []
    for pitch in pitches:
        for velocity, high in ((56, 0.2), (104, 0.8)):
            harmonics = (1.0, 0, 0, high, high, 0, 0)
            sound = tone(pitch, 0.6, release=0.15, decay_db=10, harmonics=harmonics) * (0.5 if velocity < 80 else 1)
            found.append(Recording(f"{pitch}.{velocity}", pitch, velocity, sound.astype(np.float32), 0.6, True))
    return found


def test_of_many_recordings_one_of_each_pitch_and_strength_is_drawn_before_a_second_one():
    pytest.importorskip("torch")
    from miao.training.new_voice import drawn

    keys = [(p, v) for _ in range(3) for p in range(60, 70) for v in (50, 100)]
    recordings = [Recording("", p, v, np.zeros((1, 1), np.float32), 1.0, True) for p, v in keys]
    assert drawn(recordings, 100) == list(range(60))
    assert drawn(recordings, 20) == list(range(20))
    some = [keys[i] for i in drawn(recordings, 25)]
    assert set(some) == set(keys) and len(some) == 25
    assert np.ptp([p for p, _ in some[20:]]) >= 8, "where not all have room they are taken from everywhere"
    assert len({keys[i] for i in drawn(recordings, 7)}) == 7


def test_measured_notes_have_one_table_in_tune():
    flat = [replace(r, sound=tone(r.pitch - 0.4, 0.6)) for r in toy_recordings(range(60, 66))]
    data = voice_notes(flat, HARMONIC)
    assert np.median([fit.tune_cents for fit in data.fits]) == pytest.approx(-40, abs=3)
    table = data.table()
    assert table.kind[0] == HARMONIC and table.tune_cents.min() == -15, "a voice is nearly in tune"
    assert len(data.chosen([0, 2]).notes) == 2


def test_the_nets_of_a_bank_are_the_same_in_torch():
    torch = pytest.importorskip("torch")
    from miao.bank.bank import Bank
    from miao.training.bank_nets import bank_nets
    from miao.training.export import example_inputs

    bank = Bank.load("gm", 1).with_key_levels(None)
    for kind, net in enumerate(bank_nets(bank)):
        inputs = example_inputs(4, bank.context_width, seed=kind)
        inputs["pitch"] = np.minimum(inputs["pitch"], 80)  # all voices were taught these
        wanted = bank.decode(kind, **{k: v.copy() for k, v in inputs.items()})
        told = bank.embeddings.at(kind, inputs.pop("voice"), inputs["pitch"])
        names = ("pitch", "velocity", "index", "age", "previous", "context")
        levels, spread = (x.numpy() for x in net(*(torch.from_numpy(x) for x in (*told, *(inputs[n] for n in names)))))
        if kind == tk.RELEASE:  # a bank's releases set out from where notes are
            starts = inputs["index"] == 0
            levels[starts] = set_out(levels[starts], inputs["previous"][starts])
        for ours, theirs in zip((levels, spread), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=rounding(63, 256))  # sums of 256 numbers


@pytest.mark.slow
def test_learning_brings_held_out_notes_closer_and_ends_in_a_file(tmp_path):
    pytest.importorskip("torch")
    from miao.bank.bank import Bank
    from miao.training.learn import LearnConfig
    from miao.training.new_voice import held_out_pitches, new_voice

    recordings, bank = toy_recordings(), Bank.load("gm", 1)
    assert held_out_pitches([r.pitch for r in recordings]) == {59, 69}
    about = {"licence": "CC0-1.0", "origin": "made up"}
    made = new_voice(bank, recordings, "toy", about, like=19, keep_held_out=True, config=LearnConfig(steps=30))
    assert made.scores is not None and made.scores.n_notes == 4
    assert made.scores.after < made.scores.before_aligned - 2
    scores = made.scores
    assert scores.after == min(scores.learnt, scores.led, scores.common, scores.before_aligned)
    # what many notes say of one may be nearer to it than its own tokens, each of which is off by up to half a level
    assert made.scores.after < made.scores.encoded + tk.LEVEL_STEP_DB
    assert made.scores.before_aligned <= made.scores.before
    assert made.voice.about["n_notes"] == "16"
    lengths = {take: audio.samples.shape for take, audio in made.listening.items()}
    assert lengths.keys() == {"recorded", "before", "after"} and len(set(lengths.values())) == 1
    made.voice.save(tmp_path / "toy.safetensors")
    again = LearntVoice.load(tmp_path / "toy.safetensors")
    assert again.about["set_out_from"] == "program 20, Church Organ"
    assert len(bank.with_voices([again]).table.kind) == len(bank.table.kind) + 1


def test_the_command_learns_and_says_how_well(tmp_path):
    pytest.importorskip("torch")
    for recording in toy_recordings(range(60, 65))[1::2]:
        write(tmp_path / "in" / f"{recording.pitch}_f.wav", recording.sound)
    arguments = ["learn", str(tmp_path / "in"), "--name", "toy", "--like", "20", "--steps", "2", "--voices",
                 str(tmp_path / "own"), "--listen", str(tmp_path / "listen"), "--licence", "CC0-1.0"]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert "log-mel error of 1 notes of pitches held out" in result.stdout
    assert "by what they have in common" in result.stdout
    assert sorted(p.name for p in (tmp_path / "listen").iterdir()) == ["after.wav", "before.wav", "recorded.wav"]
    assert LearntVoice.load(tmp_path / "own" / "toy.safetensors").about["licence"] == "CC0-1.0"
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "--force overwrites it" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["{in}", "--name", "a b"], 'cannot be called "a b"'), (["{in}", "--name", "a"], "no sound files whose names")],
)
def test_mistakes_in_learning_are_told_in_one_line(tmp_path, arguments, says):
    (tmp_path / "in").mkdir()
    words = [a.format(**{"in": tmp_path / "in"}) for a in arguments]
    result = CliRunner().invoke(app, ["learn", *words, "--voices", str(tmp_path)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and says in result.stderr


# recordings


@pytest.mark.data
@needs_notes
def test_the_names_of_real_samples_are_understood():
    for folder, pattern, n, shift in (("alto-sax", None, 64, 12), ("double-bass", "pizz*", 44, 0)):
        samples, left_out = named_samples(NOTES / folder, pattern)
        recordings, remarks = read_samples(samples)
        assert len(recordings) == n and not left_out
        assert [f"{shift:+d}" in line for line in remarks] == [True] * bool(shift)
    clarinet, swells = named_samples(NOTES / "philharmonia" / "clarinet", "*_A*")
    assert {s.velocity for s in clarinet} == {33, 49, 96, 112} and all("cresc" in line for line in swells)
    recordings, remarks = read_samples(clarinet)
    assert all("fortissimo" in line for line in remarks), "these sound a semitone lower than they are called"
    assert len(remarks) + len(recordings) == len(clarinet)


@pytest.mark.data
@needs_notes
def test_a_real_sfz_file_is_read_and_its_strings_ring_out():
    (path,) = (NOTES / "spanish-guitar").glob("*.sfz")
    recordings, remarks = recordings_from(path)
    assert len(recordings) == 48 and not remarks
    let_go = [r.name for r in recordings if r.is_released]
    assert let_go in ([], ["A4.flac"])  # whose partials beat down by 20 dB once, as if it ended there


def test_a_voice_can_be_led_by_what_its_notes_have_in_common():
    pytest.importorskip("torch")
    from miao.bank.bank import Bank
    from miao.datasets.voice_notes import voice_notes
    from miao.training.new_voice import _common, program_copy

    recordings, bank = toy_recordings(range(60, 66)), Bank.load("gm", 1)
    data = voice_notes(recordings, 0)
    about = {"name": "toy", "bank": bank.name, "nets": bank.nets_checksum}
    base = replace(program_copy(bank, 19, 0.0, about), table=data.table(), key_levels=None)
    voice = _common(bank, recordings, data, list(range(len(recordings))), 19, base)
    assert voice.surface is not None and len(voice.surface.spectrum) == 6
    assert voice.course is not None  # toy notes die away
    player, errors = bank.with_voices([voice]), []
    for recording in recordings:
        score = one_note_score(0, recording.pitch, recording.velocity, recording.hold_seconds)
        sound = play(player, score, voice=len(bank.table.kind))
        errors.append(log_mel_error(log_mel(recording.sound), log_mel(sound)))
    assert np.mean(errors) < 4


@pytest.mark.parametrize("better", [HARMONIC, MODES])
def test_whether_partials_are_modes_is_asked_of_pitches_left_out_but_not_of_those_held_out(better, monkeypatch):
    pytest.importorskip("torch")
    from miao.bank.bank import Bank
    from miao.training import new_voice

    asked = []

    def error(bank, voice, data, recordings, program, *, lasts):
        asked.append({r.pitch for r in recordings})
        return 1.0 if data.kind == better else 2.0

    monkeypatch.setattr(new_voice, "left_out_error", error)
    monkeypatch.setattr(new_voice, "choose_kind", lambda recordings: HARMONIC)
    recordings = toy_recordings(range(60, 66))
    train = [i for i, r in enumerate(recordings) if r.pitch != 62]
    data = new_voice._measured(Bank.load("gm", 1), recordings, train, 19)
    assert data.kind == better
    assert [(n.pitch, n.velocity) for n in data.notes] == [(r.pitch, r.velocity) for r in recordings]
    assert asked == [{60, 61, 63, 64, 65}] * 2
