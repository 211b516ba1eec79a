"""Recordings of music learnt from: several voices at once, a fit that goes on, what is said of bad input."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

import miao
from miao.bank.bank import Bank
from miao.bank.defaults import AS_TAUGHT
from miao.bank.learnt_voice import LearntVoice
from miao.cli.main import app
from miao.datasets.annotations import as_score, as_track
from miao.errors import DataError, ScoreError
from miao.measuring.align import align
from miao.measuring.power import FRAME_SECONDS, bands_below, note_courses
from miao.midi.score import notes_array
from miao.midi.writing import write_score
from miao.sound.audio import Audio, read_audio, resample
from miao.sound.spectrum import log_mel, log_mel_error

torch = pytest.importorskip("torch")

from miao.training import learn_music as fitting  # noqa: E402
from miao.training import music_model  # noqa: E402
from miao.training.learn_music import Fitted  # noqa: E402
from miao.training.music_model import MusicConfig, Piece, Ready  # noqa: E402
from miao.training.music_voice import as_rendered, learn_music, voice_names  # noqa: E402
from miao.training.performances import KIT, Performance, Span, as_piece, excerpts, instruments, split  # noqa: E402

SECONDS = 8.0
N_FRAMES = int(SECONDS / FRAME_SECONDS)
FLUTE, GUITAR, CELLO = 73, 25, 42


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


def part(name, program, low, step, seconds=SECONDS, seed=0, is_drum=False):
    rng, rows, time = np.random.default_rng([program, seed]), [], 0.2
    while time < seconds - 1:
        rows.append((time, time + 0.9 * step, time + 0.9 * step, low + int(rng.integers(0, 12)),
                     int(rng.integers(50, 110)), program, 0, is_drum))  # fmt: skip
        time += step
    return as_track(name, program, notes_array(rows))


def duo():
    return as_score([part("Flute", FLUTE, 72, 0.45), part("Guitar", GUITAR, 48, 0.35)])


def as_taught(score):
    """A score played by the programs that voices set out from, not by what plays in their places by default."""
    tracks = [replace(track, notes=track.notes.copy()) for track in score.tracks]
    for track in tracks:
        track.notes["bank"] = 128 * AS_TAUGHT
    return replace(score, tracks=tuple(tracks))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A duo as `gm` plays it in a club: its sound and its MIDI file."""
    folder, score = tmp_path_factory.mktemp("duo"), duo()
    write_score(score, folder / "duo.mid")
    miao.Synthesizer.from_pretrained("gm").render(as_taught(score), room="club", end=SECONDS).save(folder / "duo.wav")
    return folder


# several voices


def two_voices(gm):
    courses = tuple(note_courses(gm, program, track.notes, N_FRAMES)
                    for program, track in zip((FLUTE, GUITAR), duo().tracks, strict=True))  # fmt: skip
    return Piece(courses, np.zeros((N_FRAMES, 60), np.float32))


def test_what_is_heard_of_one_voice_is_learnt_by_that_voice(gm):
    blank = two_voices(gm)
    truth = Fitted(gm, [FLUTE, GUITAR], [blank], MusicConfig())
    with torch.no_grad():
        truth.music.floor -= 50
        truth.music.tail -= 20
        truth.music.levels[1].held[:, 0, -1] += 3.0
        heard = truth.predicted(truth.ready[0]).numpy()
    fitted = Fitted(gm, [FLUTE, GUITAR], [replace(blank, heard_db=heard)], MusicConfig(room_steps=40, steps=30))
    errors = fitted.learn()
    assert errors["all"] < 0.5 < errors["gain"]
    with torch.no_grad():
        louder = [float(2 * voice.gain + 1.6 * voice.held[:, 0, -1].mean()) for voice in fitted.music.levels]
    assert louder[1] - louder[0] > 3.0  # of 5 dB


def test_voices_are_called_by_what_they_set_out_from():
    assert voice_names("mine", [0]) == ["mine"]
    assert voice_names("trio", [FLUTE, 24, 42]) == ["trio-flute", "trio-nylon-guitar", "trio-cello"]


def test_instruments_with_few_notes_are_left_to_the_bank():
    score = as_score([part("Flute", FLUTE, 72, 0.4), part("Bell", 14, 60, 3.0), part("Drum", 0, 36, 0.3)])
    drums = replace(score.tracks[2], notes=score.tracks[2].notes.copy())
    drums.notes["is_drum"] = True
    performance = Performance("x", Audio(np.zeros((1, 10)), 8000), replace(score, tracks=(*score.tracks[:2], drums)),
                              (0, 1, 2))  # fmt: skip
    assert instruments([performance]) == ([KIT, FLUTE], [14])
    with pytest.raises(DataError, match="are too few to learn from; 12 of one instrument are needed"):
        instruments([replace(performance, tracks=(1,))])


# what is compared


def test_frames_before_an_excerpt_sound_into_it_and_are_not_compared(gm):
    whole = two_voices(gm)
    ready = Ready(whole.part(200, 300, 50), (0.5, 0.5))
    assert ready.n_before == 50 and len(ready.heard) == 150
    heard = torch.zeros(150, 60)
    assert float(ready.error(torch.cat([heard[:50] + 9, heard[50:]]))) == 0
    assert float(ready.error(heard + 9)) == pytest.approx(9)


def test_what_is_predicted_as_inaudible_is_still_pulled_towards_what_is_heard(gm):
    ready = Ready(replace(two_voices(gm), heard_db=np.zeros((N_FRAMES, 60), np.float32)), (0.5, 0.5))
    predicted = torch.full((N_FRAMES, 60), -200.0, requires_grad=True)
    error = ready.error(predicted)
    error.backward()
    assert float(error.detach()) == pytest.approx(-ready.threshold)  # counted from the threshold on only
    assert bool((predicted.grad < 0).all())


def test_pieces_are_held_out_whole_or_by_their_last_quarter():
    assert split([100] * 5)[1] == [Span(3, 0, 100)]
    train, test = split([100, 200])
    assert train == [Span(0, 0, 75), Span(1, 0, 150)] and test == [Span(0, 75, 100), Span(1, 150, 200)]


def test_excerpts_are_a_minute_at_the_most_and_hold_every_frame_once():
    n = int(150 / FRAME_SECONDS)
    piece = Piece((), np.arange(n, dtype=np.float32)[:, None])
    found = excerpts([piece], [Span(0, 0, n)])
    compared = np.concatenate([e.heard_db[e.n_before :, 0] for e in found])
    np.testing.assert_array_equal(compared, np.arange(n))
    assert all(e.n_frames - e.n_before <= 61 / FRAME_SECONDS for e in found) and found[1].n_before > 0


def test_notes_are_put_where_the_programs_must_play_them(gm, recorded):
    late = as_score([replace(track, notes=shifted(track.notes, 0.03)) for track in duo().tracks])
    performance = Performance("duo", read_audio(recorded / "duo.wav"), late, (0, 1))
    _, in_time = as_piece(gm, performance, [FLUTE, GUITAR], 80, is_one=False)
    moved = in_time.score.tracks[0].notes["start"] - duo().tracks[0].notes["start"]
    np.testing.assert_allclose(moved, 0, atol=0.008)


def test_telephone_sound_of_one_channel_is_learnt_from_up_to_its_bandwidth(gm, recorded):
    whole = read_audio(recorded / "duo.wav")
    narrow = resample(Audio(whole.samples.mean(axis=0, keepdims=True), whole.sample_rate), 8000)
    performance = Performance("duo", narrow, duo(), (0, 1))
    n_bands = bands_below(4000)
    piece, _ = as_piece(gm, performance, [FLUTE, GUITAR], n_bands, is_one=False)
    assert 30 < n_bands == piece.heard_db.shape[1] < bands_below(8000)
    fitted = Fitted(gm, [FLUTE, GUITAR], [piece], MusicConfig(room_steps=20, steps=0))
    assert fitted.learn()["room"] < fitted.one_gain_error([piece]) + 1 < 5


def shifted(notes, seconds):
    notes = notes.copy()
    for name in ("start", "end", "damp"):
        notes[name] += seconds
    return notes


# a fit that goes on


def test_a_fit_that_was_stopped_comes_out_as_if_it_had_not_been(gm, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_EVERY_SECONDS", 0.0)
    piece = replace(two_voices(gm), heard_db=np.random.default_rng(0).normal(-40, 9, (N_FRAMES, 60)).astype(np.float32))
    config = MusicConfig(room_steps=4, steps=4)

    def fitted():
        return Fitted(gm, [FLUTE, GUITAR], [piece, piece.part(100, 300)], config)

    whole = fitted()
    whole.learn()
    for stop in (3, 4, 6):
        saved = tmp_path / f"{stop}.fit"
        steps = []

        def stopped(done, steps=steps, stop=stop):
            steps.append(done)
            if len(steps) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fitted().learn(stopped, saved)
        again = fitted()
        more = []
        errors = again.learn(more.append, saved)
        assert len(more) == 8 - stop and errors == whole.errors
        assert again.room_error([piece]) == whole.room_error([piece])
        for a, b in zip(again.music.parameters(), whole.music.parameters(), strict=True):
            np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_a_damaged_or_foreign_fit_is_begun_anew(gm, tmp_path):
    config = MusicConfig(room_steps=2, steps=1)
    (tmp_path / "a.fit").write_bytes(b"nothing of the kind")
    steps = []
    Fitted(gm, [FLUTE, GUITAR], [two_voices(gm)], config).learn(steps.append, tmp_path / "a.fit")
    Fitted(gm, [FLUTE, GUITAR], [two_voices(gm)], replace(config, seed=1)).learn(steps.append, tmp_path / "a.fit")
    assert len(steps) == 6


# the command and the call


@pytest.fixture(scope="module")
def learnt(recorded):
    words = ["learn", "duo.wav", "--midi", "duo.mid", "--name", "duo", "--voices", "v", "--rooms", "r", "--listen", "l",
             "--steps", "2"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(recorded)
        patch.setattr(music_model, "MusicConfig", partial(MusicConfig, room_steps=40))
        result = CliRunner().invoke(app, words, prog_name="miao")
        again = CliRunner().invoke(app, words, prog_name="miao")
    return recorded, result, again


def test_a_mix_of_two_becomes_two_voices_and_clips_to_listen_to(learnt):
    folder, result, again = learnt
    assert result.exit_code == 0, result.stderr
    voices = [LearntVoice.load(folder / "v" / f"duo-{name}.safetensors") for name in ("flute", "steel-guitar")]
    assert [voice.about["set_out_from"] for voice in voices] == ["program 74, Flute", "program 26, Steel Guitar"]
    assert all(voice.shift.keys is not None for voice in voices)
    assert "--voice 1=duo-flute" in result.stdout and "--voice 2=duo-steel-guitar" in result.stdout
    clips = [read_audio(folder / "l" / f"{take}.wav") for take in ("recorded", "before", "before-in-room", "after")]
    assert len({clip.samples.shape for clip in clips}) == 1
    assert log_mel_error(*(log_mel(clip.samples) for clip in (clips[0], clips[3]))) < 4
    assert not list((folder / "v").glob(".*"))  # nothing is left of the fit
    assert again.exit_code == 2 and "exists; overwrite it with --force" in again.stderr


def test_a_voice_learnt_from_music_plays(learnt):
    voice = LearntVoice.load(learnt[0] / "v" / "duo-flute.safetensors")
    audio = miao.Synthesizer.from_pretrained("gm").render(duo(), end=1.0, voices={1: voice}, room="none")
    assert np.abs(audio.samples).max() > 0.01


def test_a_voice_that_is_further_off_as_rendered_is_told():
    program = {"before": 5.6, "before-in-room": 5.4}
    assert as_rendered({}) == as_rendered(program | {"after": 5.4, "bank.sf2": 4.0}) == []
    assert as_rendered(program | {"after": 9.2})[0].startswith("as rendered, what was held out is 3.8 dB further off")


def test_mistakes_in_the_call_are_told(recorded):
    sound, song = recorded / "duo.wav", recorded / "duo.mid"
    with pytest.raises(DataError, match="1 recordings and 2 MIDI files"):
        miao.learn_recording(sound, [song, song], name="x")
    with pytest.raises(ScoreError, match=r"there is no track 3; .* tracks 1 to 2"):
        miao.learn_recording(sound, song, name="x", tracks=[1, 3])
    with pytest.raises(DataError, match="like is 129; programs go from 1 to 128"):
        miao.learn_recording(sound, song, name="x", like=129)


def test_only_the_beginning_of_a_long_recording_is_learnt_from_and_that_is_said(recorded):
    from miao.training.performances import read_performance

    heard = read_performance(recorded / "duo.wav", duo(), [0, 1], 6.0)
    assert heard.audio.duration == 6.0
    assert any("learnt from the first 6 of its" in remark for remark in heard.remarks)
    assert all((track.notes["start"] < 10).all() for track in heard.score.tracks)


def moved(score, semitones, program=None):
    tracks = [replace(track, notes=track.notes.copy()) for track in score.tracks]
    for track in tracks:
        track.notes["pitch"] += semitones
        track.notes["program"] = track.notes["program"] if program is None else program
    return replace(score, tracks=tuple(tracks))


def test_a_score_an_octave_off_is_refused_in_one_line_unless_an_organ_plays(recorded):
    from miao.training.performances import read_performance

    for semitones, line in ((12, "an octave above what sounds; transpose them by -12"),
                            (-12, r"an octave below what sounds; transpose them by \+12")):  # fmt: skip
        for places in ([0], [1], [0, 1]):
            with pytest.raises(DataError, match=line):
                read_performance(recorded / "duo.wav", moved(duo(), semitones), places, SECONDS)
    read_performance(recorded / "duo.wav", moved(duo(), 12, program=18), [0, 1], SECONDS)
    read_performance(recorded / "duo.wav", moved(duo(), 12), [0, 1], SECONDS, like=19)


def test_partials_that_another_note_has_too_do_not_tell_of_an_octave_however_the_recording_is_tuned():
    from miao.measuring import octaves

    both = notes_array([(0.0, 2.0, 2.0, 60, 80), (0.0, 2.0, 2.0, 72, 80)])
    for cents in (-45.0, 0.0, 45.0):
        halves, odd, even = octaves._stand_out(np.zeros((20, 2049), np.float32), both[0], both, cents)
        assert np.isnan(even) and halves == odd == 0, "the octave above has all even ones"


def test_a_recording_more_than_a_quarter_tone_off_is_found(gm):
    notes = np.concatenate([track.notes for track in duo().tracks])
    for cents in (40, 56, -56):
        table = replace(gm.table, tune_cents=gm.table.tune_cents + np.float32(cents))
        audio = miao.Synthesizer(replace(gm, table=table)).render(
            as_taught(duo()), end=SECONDS, gain_db=-12.0, room="none"
        )
        found = align(audio.samples, audio.sample_rate, notes)
        assert found.confidence > 0.5 and found.tuning_cents == pytest.approx(cents, abs=3)


def test_a_voice_sets_out_from_what_plays_by_default_where_that_is_nearer(gm):
    score = as_score([part("Flute", FLUTE, 72, 0.45)])
    for is_taught in (False, True):
        played = as_taught(score) if is_taught else score
        audio = miao.Synthesizer(gm).render(played, end=SECONDS, gain_db=-12.0, room="none")
        made = learn_music(gm, [Performance("x", audio, score, (0,))], "mine", {},
                           config=MusicConfig(room_steps=8, steps=1))  # fmt: skip
        start = made.voice.about["set_out_from"]
        assert start == ("program 74, Flute" if is_taught else "program 74, flute as it plays by default")
        assert made.scores.one_gain < 2.5
        assert (made.voice.gains is None) == is_taught  # all that the default voice has goes with it
        again = miao.Synthesizer(gm).render(score, end=2.0, room="none", voices={1: made.voice})
        assert np.abs(again.samples).max() > 0.01
