"""Drum kits learnt from music: each key by itself, drums ring as long as they do, mixes with drums become a kit too."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

import miao
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.level_shift import AGES, SINCE, LevelShift
from miao.bank.voices import DRUM_KEYS, drum_voice
from miao.cli.main import app
from miao.datasets.annotations import as_score, as_track
from miao.errors import BankError, DataError
from miao.measuring.power import FRAME_SECONDS, note_courses
from miao.midi.score import notes_array
from miao.midi.writing import write_score
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems

torch = pytest.importorskip("torch")

from miao.training import music_model, music_voice  # noqa: E402
from miao.training.kit_voice import kit_copy  # noqa: E402
from miao.training.learn_music import Fitted  # noqa: E402
from miao.training.music_model import MusicConfig, Piece  # noqa: E402
from miao.training.performances import KIT, Performance, Span, instruments  # noqa: E402
from miao.training.recording import as_drums, chosen  # noqa: E402

KICK, SNARE, HAT, OPEN, CRASH = 36, 38, 42, 46, 49
SECONDS = 6.0


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


@pytest.fixture(scope="module")
def kit(gm):
    return kit_copy(gm, {"name": "mine", "bank": "gm", "nets": gm.nets_checksum})


def beat(keys=(KICK, HAT, SNARE, HAT), step=0.25, seconds=SECONDS, length=0.05, is_drum=True):
    times = np.arange(0.1, seconds - 1, step)  # not quite even: an even beat fits a beat later as well
    times[1:] += np.random.default_rng(0).uniform(-0.3, 0.3, len(times) - 1) * step
    return notes_array([(t, t + length, t + length, keys[n % len(keys)], 70 + 10 * (n % 5), 0, 0, is_drum)
                        for n, t in enumerate(times.tolist())])  # fmt: skip


def drums(**how):
    return as_score([as_track("Drums", 9, beat(**how))])


def stem(bank, score, voices=None):
    blocks = stream_stems(bank, score, PlaySettings(), voices=voices)
    return np.concatenate([block.stems[0] for block in blocks], axis=1)


def test_the_copy_of_a_kit_plays_what_the_kit_plays_after_being_kept_in_a_file(gm, kit, tmp_path):
    kit.save(tmp_path / "mine.safetensors")
    again = LearntVoice.load(tmp_path / "mine.safetensors")
    score = drums(keys=(KICK, CRASH, SNARE, OPEN, HAT, *DRUM_KEYS[:8]))  # some of these have corrections
    plain, copied = stem(gm, score), stem(gm.with_voices([again]), score, {0: len(gm.table.kind)})
    assert plain.shape == copied.shape and np.abs(plain).max() > 0.01
    assert np.abs(plain - copied).max() < 1e-3 * np.abs(plain).max()


def test_a_kit_rings_on_whatever_track_it_plays(gm, kit):
    bank = gm.with_voices([kit])
    assert bank.own_kits == {len(gm.table.kind)}
    numbers = {0: len(gm.table.kind)}
    on_channel_10, elsewhere = (
        stem(bank, drums(keys=(CRASH,), step=2.0, is_drum=is_drum), numbers) for is_drum in (True, False)
    )
    assert on_channel_10.shape == elsewhere.shape
    assert on_channel_10.shape[1] > 44_100 * SECONDS  # the crash, not its 50 ms


def test_a_kits_shift_is_of_one_key_alone(gm, kit):
    held = np.zeros((len(AGES), 2, len(DRUM_KEYS), 79), np.float16)
    held[:, 0, SNARE - DRUM_KEYS[0]] = 4
    ends = np.zeros((len(SINCE), len(DRUM_KEYS), 79), np.float16)
    shift = LevelShift(held, ends, np.array([0.5], np.float32))
    keys = np.float32([0, KICK, SNARE - 1, SNARE, SNARE + 1, DRUM_KEYS[-1], 127])
    still = np.full(len(keys), 0.5, np.float32)
    moved = shift.at(keys, still, np.zeros((len(keys), 1)), None)[:, 0]
    np.testing.assert_array_equal(moved[:, 0], [0, 0, 0, 4, 0, 0, 0])
    held[:, 0] = np.arange(len(DRUM_KEYS))[None, :, None]
    edges = LevelShift(held, ends, np.array([0.5], np.float32)).at(keys, still, np.zeros((len(keys), 1)), None)
    np.testing.assert_array_equal(edges[:, 0, 0], [0, 9, 10, 11, 12, 60, 60])  # keys beyond as the outermost


def test_a_file_whose_shifts_are_of_different_nodes_is_refused(kit, tmp_path):
    held = np.zeros((len(AGES), 2, len(DRUM_KEYS), 79), np.float16)
    ends = np.zeros((len(SINCE), 43, 79), np.float16)
    replace(kit, shift=LevelShift(held, ends, np.array([0.5], np.float32))).save(tmp_path / "odd.safetensors")
    with pytest.raises(BankError, match="of different nodes"):
        LearntVoice.load(tmp_path / "odd.safetensors")


def test_drums_are_followed_until_they_are_cut_and_nobody_lets_go_of_them(gm):
    notes = beat(keys=(CRASH,), step=1.0, seconds=2.0)[:1]
    cut = notes.copy()
    cut["cut"] = notes["start"] + 0.5
    rings, choked = (note_courses(gm, drum_voice(CRASH), some, 200, rings=True) for some in (notes, cut))
    assert (rings.since < 0).all() and rings.age.max() > 1.0
    assert 0.4 < choked.age.max() < 0.6
    damped = note_courses(gm, drum_voice(CRASH), notes, 200)
    assert (damped.since >= 0).any()


def test_what_is_heard_of_one_drum_is_learnt_of_that_drum(gm, kit):
    bank, n_frames = gm.with_voices([kit]), int(SECONDS / FRAME_SECONDS)
    courses = note_courses(bank, len(gm.table.kind), beat(), n_frames, rings=True)
    blank = Piece((courses,), np.zeros((n_frames, 60), np.float32))
    truth = Fitted(bank, [len(gm.table.kind)], [blank], MusicConfig())
    with torch.no_grad():
        truth.music.floor -= 50
        truth.music.tail -= 20
        truth.music.levels[0].held[:, 0, [KICK, SNARE, HAT].index(SNARE)] += 3.0
        heard = truth.predicted(truth.ready[0]).numpy()
    fitted = Fitted(bank, [len(gm.table.kind)], [replace(blank, heard_db=heard)], MusicConfig(room_steps=20, steps=40))
    errors = fitted.learn()
    assert errors["all"] < 0.7 < errors["gain"]
    shift = fitted.result(22_050).shift
    loud = {key: float(shift.held[1:3, 0, key - DRUM_KEYS[0], 50:70].mean() + shift.keys[0, key, 50:70].mean())
            for key in (KICK, SNARE)}  # fmt: skip
    assert loud[SNARE] - loud[KICK] > 1.5  # of 3 levels
    never = shift.held[:, 1, CRASH - DRUM_KEYS[0]]
    np.testing.assert_array_equal(never, shift.held[:, 1, OPEN - DRUM_KEYS[0]])  # what nobody played is as all are


def test_drums_are_an_instrument_among_others():
    score = as_score([as_track("Piano", 0, beat(is_drum=False)), as_track("Drums", 9, beat(step=0.2))])
    performance = Performance("x", None, score, (0, 1))
    assert instruments([performance]) == ([KIT, 0], [])
    assert instruments([replace(performance, tracks=(0,))]) == ([0], [])
    assert len(performance.played_by(KIT)) == len(score.tracks[1].notes)
    assert chosen(score, None, "x.wav") == [0, 1] and chosen(score, None, "x.wav", like=0) == [0]
    told = as_drums(score, [0])
    assert told.tracks[0].notes["is_drum"].all() and not score.tracks[0].notes["is_drum"].any()


def test_a_kit_is_learnt_from_a_recording_and_plays(gm, tmp_path, monkeypatch):
    """Of a kit whose snare is not as bright and twice as loud, on a file that does not say that it is drums."""
    bright = drums()
    held = np.zeros((len(AGES), 2, len(DRUM_KEYS), 79), np.float16)
    held[:, 0, SNARE - DRUM_KEYS[0], :60] = 6
    ends = np.zeros((len(SINCE), len(DRUM_KEYS), 79), np.float16)
    about = {"name": "theirs", "bank": "gm", "nets": gm.nets_checksum}
    theirs = replace(kit_copy(gm, about), shift=LevelShift(held, ends, np.array([0.5], np.float32)))
    synthesizer = miao.Synthesizer(gm)
    synthesizer.render(bright, end=SECONDS, room="none", voices={1: theirs}).save(tmp_path / "d.wav")
    write_score(drums(is_drum=False), tmp_path / "d.mid")
    words = ["learn", str(tmp_path / "d.wav"), "--midi", str(tmp_path / "d.mid"), "--drums", "--name", "my-kit",
             "--voices", str(tmp_path), "--rooms", str(tmp_path), "--steps", "25"]  # fmt: skip
    monkeypatch.setattr(music_model, "MusicConfig", partial(MusicConfig, room_steps=15))
    result = CliRunner().invoke(app, words, prog_name="miao")
    assert result.exit_code == 0, result.stderr
    learnt = LearntVoice.load(tmp_path / "my-kit.safetensors")
    assert learnt.about["set_out_from"] == "the standard kit"
    assert float(learnt.about["held_out_db"]) < float(learnt.about["held_out_one_gain_db"]) - 1
    assert np.abs(synthesizer.render(bright, end=1.0, voices={1: learnt}).samples).max() > 0.01


def test_a_kit_sets_out_from_no_program(tmp_path):
    sound = tmp_path / "d.wav"
    with pytest.raises(DataError, match="give one of like and drums"):
        miao.learn_recording(sound, drums(), name="x", like=1, drums=True)
    with pytest.raises(DataError, match="no pitched notes to learn; a drum kit sets out from no program"):
        miao.learn_recording(sound, drums(), name="x", like=1)


def test_what_is_held_out_is_never_learnt_from_if_that_is_asked_for(gm, monkeypatch):
    audio = miao.Synthesizer(gm).render(drums(), end=SECONDS, gain_db=-12.0, room="none")
    learnt_from = []

    class Watched(Fitted):
        def __init__(self, bank, programs, pieces, config):
            learnt_from.append(sum(piece.n_frames - piece.n_before for piece in pieces))
            super().__init__(bank, programs, pieces, config)

    def divide(lengths):
        cuts = [int(0.6 * n) for n in lengths]
        return [Span(0, 0, cuts[0])], [Span(0, cuts[0], lengths[0])]

    monkeypatch.setattr(music_voice, "Fitted", Watched)
    for is_kept in (True, False):
        made = music_voice.learn_music(gm, [Performance("x", audio, drums(), (0,))], "mine", {}, divide=divide,
                                       config=MusicConfig(room_steps=2, steps=2), keep_held_out=is_kept)  # fmt: skip
        whole = round(SECONDS / FRAME_SECONDS)
        assert max(learnt_from) == pytest.approx((0.6 if is_kept else 1) * whole, abs=3)
        assert made.scores.seconds == pytest.approx(0.4 * SECONDS, abs=0.1)
