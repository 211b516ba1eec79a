"""What recorded notes say together: the surface that leads a voice, and how it is found from notes."""

from dataclasses import replace

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.lasting import CHUNK_SECONDS, FIRST_CHUNK, KNOT_SECONDS
from miao.bank.learnt_voice import LearntVoice
from miao.bank.level_shift import AGES, SINCE, LevelShift
from miao.bank.surface import (
    ATTACK_KNOTS,
    FADE_SEMITONES,
    N_RELEASE,
    RELEASE_KNOTS,
    SUSTAIN_KNOTS,
    Surface,
    nodes_of,
    shares,
)
from miao.bank.voices import HARMONIC, PITCH_NODES, VoiceEmbeddings
from miao.datasets.notes import NoteData
from miao.datasets.samples import Recording
from miao.datasets.voice_notes import VoiceNotes, voice_notes
from miao.errors import BankError
from miao.measuring.voice_fit import VoiceFit
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.brightness import as_bright, brightness, has_lost_a_step, steps_by_strength
from miao.training.by_sound import _kept, played, played_mels, surface_voice
from miao.training.new_voice import program_copy
from miao.training.note_features import STEADY, NoteFeatures
from miao.training.surface import _left, _said, _Way, as_loud, fit_surface

CLARINET = 71


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1, has_more=False)


def surface(n_keys=7, n_sustain=2):
    """Keys from 60 on, two strengths: a key is a level louder than the one below it, the harder stroke ten."""
    loud = 20 + np.arange(n_keys)[:, None, None] + np.array([0.0, 10.0])[None, :, None]
    spectrum = np.broadcast_to(loud, (n_keys, 2, tk.N_CELLS)).astype(np.float16)
    knots = len(ATTACK_KNOTS) + n_sustain * len(SUSTAIN_KNOTS)
    course = np.zeros((nodes_of(n_keys), 2, knots, tk.N_CELLS), np.float16)
    course[:, :, 0] = -8  # where a note starts
    course[:, :, len(ATTACK_KNOTS) + len(SUSTAIN_KNOTS) :] = -2  # in the second sustain chunk
    steps = np.concatenate([np.array(RELEASE_KNOTS) + tk.CHUNK_STEPS * i for i in range(N_RELEASE)])
    falls = np.broadcast_to(-0.25 * steps[:, None], (nodes_of(n_keys), 2, len(steps), tk.N_CELLS)).astype(np.float16)
    return Surface(
        np.array([60], np.uint8), np.array([0.25, 0.75], np.float32), spectrum, np.array([0.25, 0.75], np.float32),
        course, falls,
    )  # fmt: skip


def led(own, kind, pitch, velocity=0.25, index=0, previous=None, written=5.0):
    """A chunk of one note."""
    levels = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), written, np.float32)
    before = None if previous is None else np.full((1, tk.N_CELLS), previous, np.float32)
    return own.led(kind, levels, np.array([pitch]), np.array([velocity]), np.array([index]), before)[0, :, 0]


def test_a_note_starts_and_goes_on_as_its_key_and_strength_say():
    own = surface()
    attack = led(own, tk.ATTACK, 62)
    assert attack[0] == pytest.approx(14) and attack[-1] == pytest.approx(22)
    assert led(own, tk.SUSTAIN, 62) == pytest.approx(np.full(32, 22.0))
    assert led(own, tk.SUSTAIN, 62, index=1) == pytest.approx(np.full(32, 20.0))
    assert led(own, tk.SUSTAIN, 62.5, velocity=0.5)[0] == pytest.approx(27.5)
    assert led(own, tk.SUSTAIN, 62, velocity=1.0)[0] == pytest.approx(32)  # beyond the hardest as there


def test_where_nothing_is_known_a_note_is_what_nets_write():
    own = surface()
    assert (led(own, tk.SUSTAIN, 62, index=2) == 5).all()
    assert (led(own, tk.ATTACK, 66 + FADE_SEMITONES) == 5).all()
    assert led(own, tk.SUSTAIN, 66 + FADE_SEMITONES / 3)[0] == pytest.approx(5 / 3 + 26 * 2 / 3, abs=1e-3)


def test_a_note_that_is_let_go_falls_from_what_it_had_reached():
    own = surface()
    last = 30.0
    for index in range(N_RELEASE):
        chunk = led(own, tk.RELEASE, 62, index=index, previous=last)
        assert (np.diff(chunk) <= 0.01).all() and chunk[0] <= last + 0.01
        last = float(chunk[-1])
    assert last == pytest.approx(30 - 0.25 * (N_RELEASE * tk.CHUNK_STEPS - 1), abs=0.3)
    assert led(own, tk.RELEASE, 62, index=N_RELEASE, previous=last)[-1] <= max(last - 8, 0) + 0.01  # and dies
    assert (led(own, tk.RELEASE, 62, previous=0.0) == 0).all()


def test_no_cell_grows_once_a_note_is_let_go():
    """Lines through levels that break off overshoot: a tremolo was 19 dB louder behind its end."""
    plain = surface()
    falls = plain.falls.copy()
    falls[:, :, 1:4] = 8
    falls[:, :, len(RELEASE_KNOTS) : len(RELEASE_KNOTS) + 3] += 20
    own, last = replace(plain, falls=falls), 30.0
    for index in range(N_RELEASE):
        chunk = led(own, tk.RELEASE, 62, index=index, previous=last)
        assert chunk[0] <= last + 1e-3 and (np.diff(chunk) <= 1e-3).all()
        last = float(chunk[-1])
    assert last < 10


def test_where_no_release_was_recorded_a_note_falls_as_nets_write_from_what_it_had_reached():
    own = replace(surface(), falls=None)
    written = np.repeat(np.linspace(20, 4, tk.CHUNK_STEPS, dtype=np.float32)[None, :, None], tk.N_CELLS, axis=2)
    note, before = (np.array([62.0]), np.array([0.5])), np.full((1, tk.N_CELLS), 30, np.float32)
    first, second = (own.led(tk.RELEASE, written, *note, np.array([i]), before)[0, :, 0] for i in (0, 1))
    assert first == pytest.approx(np.linspace(30, 14, tk.CHUNK_STEPS), abs=1e-4)
    np.testing.assert_array_equal(second, written[0, :, 0])
    assert (own.led(tk.RELEASE, written, *note, np.array([0]), 0 * before)[0, :, : tk.PITCH_CELL] == 0).all()


def test_a_note_is_the_same_beside_others():
    own = surface()
    levels = np.zeros((3, tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
    rows = np.array([61.3, 40.0, 68.0]), np.array([0.3, 0.5, 0.9]), np.array([0, 0, 1])
    together = own.led(tk.SUSTAIN, levels, *rows, None)
    for row in range(3):
        alone = own.led(tk.SUSTAIN, levels[row : row + 1], *(x[row : row + 1] for x in rows), None)
        np.testing.assert_array_equal(alone[0], together[row])


def measured(pitches, velocities=(40, 100), jump=0.0, fall=0.0, seconds=1.5):
    """Notes whose partials fall by their number and rise with the stroke; ``jump`` levels come on top of what lies at
    one frequency, that of pitch 72; they die away by ``fall`` levels a second."""
    notes = []
    for pitch in pitches:
        for velocity in velocities:
            level = 45 - 10 * np.log2(tk.CELL_HARMONICS) / np.log2(24) * (2 - velocity / 127)
            level += jump * (np.abs(pitch + 12 * np.log2(tk.CELL_HARMONICS) - 72) < 0.1)
            token = np.concatenate([level, np.full(tk.N_NOISE, 3.0), [tk.CENTS_CENTRE]])
            n_chunks = 1 + int(np.ceil((seconds - tk.ATTACK_SECONDS) / CHUNK_SECONDS))
            lost = fall * tk.held_times(n_chunks)[:, None] * (np.arange(tk.N_CELLS) < tk.N_PARTIALS)
            held = np.rint(np.maximum(token - lost, 0)).astype(np.uint8).reshape(-1, tk.CHUNK_STEPS, tk.N_CELLS)
            ends = np.linspace(1, 0, 2 * tk.CHUNK_STEPS)[:, None] * held[-1, -1]
            release = ends.reshape(2, tk.CHUNK_STEPS, tk.N_CELLS).astype(np.uint8)
            notes.append(NoteData(0, pitch, velocity, tk.NoteTokens(held, release, seconds)))
    fits = [VoiceFit(HARMONIC, n_notes=1, balance=np.full(tk.N_CELLS - 1, 0.5, np.float32)) for _ in notes]
    return VoiceNotes(notes, [True] * len(notes), fits, HARMONIC)


@pytest.fixture(scope="module")
def found(gm):
    notes = measured(range(50, 80, 3))
    return as_loud(notes.table(), fit_surface(gm, notes, CLARINET, lasts=True)[0])


def test_notes_of_all_keys_are_found_from_some(found):
    assert found.is_whole and int(found.lowest[0]) == 50 and len(found.spectrum) == 28 and found.n_sustain == 2
    assert np.rint(found.layers * 127).tolist() == [40, 100]
    wanted = {n.pitch: n for n in measured([63], (100,)).notes}[63].tokens.held[2, 0].astype(float)
    hard = int(np.abs(found.strengths * 127 - 100).argmin())
    heard = found.spectrum[63 - 50, hard, : tk.N_SINGLE]
    assert np.abs(heard - wanted[: tk.N_SINGLE]).max() < 1.5
    assert np.abs(found.course).max() < 0.5  # as its notes stay as they are
    assert (found.falls[:, :, 0] > -1).all() and found.falls[:, :, -1, 0].max() < -25


def test_a_softer_stroke_is_duller_and_all_are_as_loud_before_gains(found):
    tilt = found.spectrum[:, :, 12].astype(float) - found.spectrum[:, :, 0].astype(float)
    recorded = [int(np.abs(found.strengths * 127 - v).argmin()) for v in (40, 100)]
    assert (tilt[:, recorded[1]] > tilt[:, recorded[0]] + 1).all()
    amplitude = tk.level_to_amplitude(found.spectrum[:, recorded, : tk.N_SINGLE].astype(np.float32))
    loud = 10 * np.log10(np.square(amplitude).sum(axis=2))
    assert np.abs(np.diff(loud, axis=1)).max() < 1


def test_between_strengths_whose_spectra_are_far_apart_a_key_is_as_loud_as_at_them(gm):
    """Halfway in dB between two spectra whose loudest partials are others there is less than in either."""
    notes = measured(range(50, 80, 6))
    for note in (n for n in notes.notes if n.velocity == 100):
        note.tokens.held[:, :, : tk.N_SINGLE] = note.tokens.held[:, :, tk.N_SINGLE - 1 :: -1]
    found = as_loud(notes.table(), fit_surface(gm, notes, CLARINET, lasts=True)[0])
    at = np.array([30, 40, 52, 60, 68, 76, 84, 90, 100, 110]) / 127
    n = len(at)
    levels = np.zeros((n, tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
    chunk = found.led(tk.SUSTAIN, levels, np.full(n, 62.0), at, np.zeros(n, np.int64), None)
    loud = 10 * np.log10(np.square(tk.level_to_amplitude(chunk[:, 0, : tk.N_SINGLE])).sum(axis=1))
    assert np.ptp(loud) < 2


def test_what_lies_at_one_frequency_is_louder_at_keys_that_were_not_recorded(gm):
    some = [p for p in range(48, 74) if p != 60]
    plain, louder = (fit_surface(gm, measured(some, (100,), jump), CLARINET, lasts=True)[0].spectrum for jump in (0, 6))
    second = (60 - 48, slice(None), 1)  # of a key left out: it lies there
    assert (louder[second].astype(float) - plain[second]).min() > 2


def test_single_notes_that_stick_out_count_little(gm):
    notes = measured(range(50, 80, 2), (100,))
    odd = [replace(n, tokens=replace(n.tokens, held=np.clip(n.tokens.held + 15, 0, 63))) if n.pitch == 66 else n
           for n in notes.notes]  # fmt: skip
    plain, found = (fit_surface(gm, replace(notes, notes=n), CLARINET, lasts=True)[0] for n in (notes.notes, odd))
    assert np.abs(found.spectrum[66 - 50].astype(float) - plain.spectrum[66 - 50])[:, : tk.N_PARTIALS].max() < 4


def test_a_struck_note_goes_on_falling_as_recordings_do_and_for_ever(gm):
    struck, course = fit_surface(gm, measured(range(50, 80, 3), (100,), fall=6.0, seconds=5.5), CLARINET, lasts=False)
    assert struck.n_sustain == FIRST_CHUNK
    node = course.offsets[60 // 3, :, : tk.N_SINGLE // 2] / 2  # in levels
    lost = {seconds: -node[KNOT_SECONDS.tolist().index(seconds)].mean() for seconds in (2.0, 3.0, 5.0)}
    middle = tk.ATTACK_SECONDS + (FIRST_CHUNK - 0.5) * CHUNK_SECONDS  # of the chunk that is repeated
    assert lost == pytest.approx({seconds: 6 * (seconds - middle) for seconds in lost}, abs=0.8)
    assert (np.diff(node[:5], axis=0) < 0).all() and node[-1].max() < -30


def test_a_struck_note_whose_file_was_faded_out_is_continued_as_it_fell_before(gm):
    notes = measured(range(50, 80, 3), (100,), fall=6.0, seconds=2.0)
    for note in notes.notes:
        note.tokens.held.reshape(-1, tk.N_CELLS)[-16:, : tk.PITCH_CELL] = 0
    struck = fit_surface(gm, replace(notes, is_released=[False] * len(notes.notes)), CLARINET, lasts=False)[0]
    course = struck.course[3, 0, -1, :4].astype(float) - struck.course[3, 0, len(ATTACK_KNOTS), :4]
    assert course == pytest.approx(np.full(4, -6 * (FIRST_CHUNK * CHUNK_SECONDS)), abs=2.5)


def a_voice(gm, own):
    fit = VoiceFit(HARMONIC).table()
    embeddings = VoiceEmbeddings(gm.embeddings.embeddings[:1], gm.embeddings.profiles[:, :1])
    return LearntVoice(fit, embeddings, None, {"name": "x", "bank": "gm", "nets": gm.nets_checksum}, surface=own)


def heard_of(gm, voice, kind, previous, index=0):
    """A chunk of a note of a learnt voice, [a, C]."""
    asked = {
        "voice": np.array([len(gm.table.kind)]),
        "pitch": np.full(1, 62, np.float32),
        "velocity": np.full(1, 0.25, np.float32),
        "index": np.full(1, index, np.int64),
        "age": np.full(1, 0.16 if kind else 0.0, np.float32),
        "previous": np.full((1, tk.N_CELLS), previous, np.float32),
        "context": np.zeros((1, gm.context_width), np.float32),
    }
    return gm.with_voices([voice]).decode(kind, **asked)[0][0]


def test_a_bank_plays_a_surface_and_a_file_keeps_it(gm, tmp_path):
    voice = a_voice(gm, surface())
    voice.save(tmp_path / "x.safetensors")
    back = LearntVoice.load(tmp_path / "x.safetensors")
    for name in Surface.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back.surface, name), getattr(voice.surface, name))
    heard = heard_of(gm, back, tk.ATTACK, 0.0)
    assert heard[-1, : tk.PITCH_CELL] == pytest.approx(np.full(tk.PITCH_CELL, 22.0))


@pytest.mark.parametrize("kind", [tk.ATTACK, tk.SUSTAIN, tk.RELEASE])
def test_what_was_learnt_from_music_moves_what_recorded_notes_lead(gm, kind):
    held = np.zeros((len(AGES), 2, PITCH_NODES, tk.N_CELLS - 1), np.float16)
    held[:, 0] = 4
    ends = np.zeros((len(SINCE), PITCH_NODES, tk.N_CELLS - 1), np.float16)
    ends[1:] = -10
    plain = a_voice(gm, surface())
    moved = replace(plain, shift=LevelShift(held, ends, np.array([0.25], np.float32)))
    expected, heard = heard_of(gm, plain, kind, 30), heard_of(gm, moved, kind, 34)
    by = np.full(tk.CHUNK_STEPS, 4.0)
    if kind == tk.RELEASE:
        by += np.interp(np.arange(tk.CHUNK_STEPS) * tk.STEP_SECONDS[kind], SINCE, ends[:, 0, 0])
    sounding = (expected[:, 0] > 1) & (expected[:, 0] + by > 1)
    more = (heard - expected)[sounding, : tk.PITCH_CELL]
    np.testing.assert_allclose(more, np.broadcast_to(by[sounding, None], more.shape), atol=1e-2)


def test_a_surface_whose_parts_do_not_fit_is_refused(gm, tmp_path):
    own = surface()
    a_voice(gm, replace(own, course=own.course[:1], falls=None)).save(tmp_path / "x.safetensors")
    with pytest.raises(BankError, match="do not fit"):
        LearntVoice.load(tmp_path / "x.safetensors")


def test_knots_give_every_step_its_share():
    for knots in (ATTACK_KNOTS, SUSTAIN_KNOTS, RELEASE_KNOTS):
        assert shares(knots).sum(axis=1) == pytest.approx(1)
        assert (shares(knots)[list(knots)] == np.eye(len(knots))).all()
    assert STEADY.stop <= 3 * tk.CHUNK_STEPS


def test_what_is_heard_neither_in_a_note_nor_in_what_others_say_of_it_is_no_error():
    n, rng = 8, np.random.default_rng(1)
    levels = np.full((n, tk.N_CELLS), 40.0, np.float32)
    levels[:, 5] = rng.uniform(0, 5, n)  # in no note
    levels[:, 6] = 20
    levels[3, 6], levels[3, 7] = 0, 45  # missing in one
    levels[:, 8] = 20
    levels[3, 8] = 4  # as loud as nothing is, too
    none, late = np.zeros((n, 1, tk.N_CELLS), np.float32), np.zeros((n, 2, tk.N_CELLS), np.float32)
    notes = NoteFeatures(60 + np.arange(n), np.full(n, 80), levels, none, none, late, np.ones(n, bool), 1.0)
    left, heard = _left(notes, _said(notes, _Way(4.0, 0.0)))
    assert not heard[:, 5].any() and not left[:, 5].any()
    assert heard[3, [6, 7, 8]].all() and left[3, 7] == pytest.approx(5, abs=0.1)
    assert left[3, 6] == left[3, 8] == pytest.approx(45 - 34 - 20, abs=0.1), "silence is as loud as what is just heard"


def louder_above(sound, hz, db):
    bins = np.fft.rfftfreq(sound.shape[1], 1 / SAMPLE_RATE)
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (db * (bins > hz) / 20), sound.shape[1]).astype(np.float32)


@pytest.mark.parametrize("db", [0, 8])
def test_what_notes_have_more_of_than_their_tokens_say_is_added_once_they_are_heard(gm, db):
    """Sounds of a surface, made brighter than it: what leads to nothing must not move it, either."""
    notes = measured(range(50, 80, 3), (100,), seconds=0.7)
    plain = replace(a_voice(gm, fit_surface(gm, notes, CLARINET, lasts=True)[0]), table=notes.table())
    player, number = gm.with_voices([plain]), len(gm.table.kind)
    asked = [Recording("", n.pitch, 100, np.zeros((2, 0), np.float32), 0.7, True) for n in notes.notes]
    sounds = [louder_above(played(player, note, number), 1500.0, db) for note in asked]
    recordings = [replace(note, sound=sound) for note, sound in zip(asked, sounds, strict=True)]
    found = surface_voice(gm, plain, notes, recordings, CLARINET, lasts=True)
    assert found.about["lasts"] == "yes"  # it was heard as it will be played

    def error(voice):
        heard = gm.with_voices([voice])
        mels = [(spectrum.log_mel(r.sound), spectrum.log_mel(played(heard, r, number))) for r in recordings]
        return np.mean([spectrum.log_mel_error(*pair) for pair in mels])

    if db:
        assert error(found) < 0.75 * error(plain)
    else:
        assert error(found) < error(plain) + 0.1


def brightness_steps(notes, sounds):
    values = [brightness(spectrum.log_mel(sound))[0] for sound in sounds]
    return steps_by_strength(values, *(np.array([getattr(n, name) for n in notes]) for name in ("pitch", "velocity")))


@pytest.mark.parametrize("db", [0, 6])
def test_strokes_that_sound_alike_become_brighter_as_recorded_ones_are(gm, db):
    notes = measured(range(50, 80, 3), (70, 100), seconds=0.7)
    own = fit_surface(gm, notes, CLARINET, lasts=True)[0]
    alike = np.broadcast_to(own.spectrum.mean(axis=1, keepdims=True), own.spectrum.shape).astype(np.float16)
    plain = replace(a_voice(gm, replace(own, spectrum=alike)), table=notes.table())
    number = len(gm.table.kind)
    asked = [Recording("", n.pitch, n.velocity, np.zeros((2, 0), np.float32), 0.7, True) for n in notes.notes]
    before = [played(gm.with_voices([plain]), note, number) for note in asked]
    sounds = [louder_above(s, 1500.0, db) if n.velocity == 100 else s for n, s in zip(asked, before, strict=True)]
    recordings = [replace(note, sound=sound) for note, sound in zip(asked, sounds, strict=True)]
    found = as_bright(gm, plain, notes, recordings)
    if not db:
        assert found is plain
        return
    after = [played(gm.with_voices([found]), note, number) for note in asked]
    wanted, was, now = (brightness_steps(asked, some) for some in (sounds, before, after))
    assert np.diff(wanted)[0] > 1 > 8 * abs(np.diff(was)[0])
    assert np.diff(now)[0] == pytest.approx(np.diff(wanted)[0], rel=0.25)


def test_a_strength_is_set_against_the_others_at_the_same_pitches():
    pitch, velocity = np.array([40, 40, 60, 60, 80]), np.array([30, 60, 60, 90, 90])
    values = pitch / 4 + velocity / 10  # the softest was recorded low, the hardest high
    np.testing.assert_allclose(np.diff(steps_by_strength(values, pitch, velocity)), 3, atol=0.1)


def test_a_step_is_lost_where_two_strengths_next_to_each_other_sound_alike():
    recorded = np.array([0.0, 3.0, 1.0, 3.1])
    assert not has_lost_a_step(recorded, np.array([0.0, 2.0, 0.5, 1.5])), "a step of 0.1 bands is chance"
    assert has_lost_a_step(recorded, np.array([0.0, 2.0, 0.2, 2.0])), "1.0 as 0.2"
    assert has_lost_a_step(recorded, np.array([0.0, 0.9, 1.0, 3.0]))


def test_what_is_added_by_sound_stays_within_what_a_file_holds():
    kept = _kept(np.array([-100.0, -3.0, 100.0], np.float32))
    assert kept.tolist() == [-tk.N_LEVELS, -3, tk.N_LEVELS]


def test_a_note_is_heard_at_the_tuning_that_it_was_recorded_in():
    gm = Bank.load("gm", 1, has_more=False)
    voice = program_copy(gm, CLARINET, 0.0, {"name": "clarinet", "bank": gm.name, "nets": gm.nets_checksum})
    sharp = replace(voice, table=replace(voice.table, tune_cents=np.full_like(voice.table.tune_cents, 30.0)))
    asked = Recording("", 76, 90, np.zeros((2, 0), np.float32), 1.0, True)
    recording = replace(asked, sound=played(gm.with_voices([sharp]), asked, len(gm.table.kind)))
    data = voice_notes([recording], HARMONIC)
    heard = played_mels(gm, voice, data, [recording], np.array([0]))[0]
    assert spectrum.log_mel_error(recording.mel, heard) < 0.5
    in_tune = played(gm.with_voices([voice]), recording, len(gm.table.kind))
    assert spectrum.log_mel_error(recording.mel, spectrum.log_mel(in_tune)) > 2
