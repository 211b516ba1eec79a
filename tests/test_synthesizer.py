import errno
import itertools
import tempfile
import time
import tracemalloc

import numpy as np
import pytest
import soxr
from conftest import rounding

import miao
from miao.errors import AudioError, ConfigError, MiaoError, ScoreError
from miao.midi.score import read_score
from miao.sound.audio import read_audio
from miao.sound.desk import pan_gains
from miao.sound.loudness import Loudness
from miao.synth import rendering
from miao.synth.mastering import Spool
from miao.synth.player import Block
from miao.synth.rendering import FADE_SECONDS
from miao.synth.stems import stream_stems
from miao.synth.synthesizer import Synthesizer, _notices

RATE = 16_000  # where the rate does not matter: a low one is quicker


def render(synthesizer, score, sample_rate=RATE, **settings):
    return synthesizer.render(score, sample_rate=sample_rate, **settings)


def stream(synthesizer, score, sample_rate=RATE, **settings):
    return synthesizer.stream(score, sample_rate=sample_rate, **settings)


def render_file(synthesizer, score, path, sample_rate=RATE, **settings):
    return synthesizer.render_file(score, path, sample_rate=sample_rate, **settings)


def note(start=0.0, end=1.0, pitch=69, velocity=100):
    return (start, end, pitch, velocity)


def peak_hz(samples, rate):
    return np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples)


def loudness_of(audio):
    meter = Loudness(audio.sample_rate, audio.channels)
    meter.add(audio.samples)
    return meter.integrated()


def true_peak_db(audio):
    """By another hand than the limiter's: soxr at eight times the rate."""
    over = soxr.resample(np.ascontiguousarray(audio.samples.T), audio.sample_rate, 8 * audio.sample_rate, "VHQ")
    return 20 * np.log10(np.abs(over).max())


@pytest.fixture
def no_engine(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("rendering began")

    monkeypatch.setattr(rendering, "stream_stems", fail)


# the sound


def test_the_stream_is_the_whole(synthesizer, song):
    whole = render(synthesizer, song, gain_db=2.0)
    assert whole.sample_rate == RATE and whole.channels == 2
    blocks = list(stream(synthesizer, song, gain_db=2.0))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole.samples)


def test_reading_ahead_changes_nothing_and_stops_when_asked_to():
    made = []

    def numbers():
        try:
            for i in range(1000):
                made.append(i)
                yield i
        finally:
            made.append("closed")

    assert list(rendering.ahead(range(50))) == list(range(50))
    source = rendering.ahead(numbers())
    assert next(source) == 0
    source.close()
    assert made[-1] == "closed" and len(made) < 10


def test_what_goes_wrong_ahead_goes_wrong_here():
    def broken():
        yield 1
        raise ScoreError("the score is broken")

    source = rendering.ahead(broken())
    assert next(source) == 1
    with pytest.raises(ScoreError, match="broken"):
        next(source)


def test_the_stream_speaks_before_the_end_is_known(synthesizer, midi, monkeypatch):
    asked = []

    def watched(*arguments, **settings):
        for block in stream_stems(*arguments, **settings):
            asked.append(block)
            yield block

    monkeypatch.setattr(rendering, "stream_stems", watched)
    long = midi({"notes": [note(0, 60)]})  # 24 blocks
    assert next(stream(synthesizer, long)).any() and len(asked) < 10


@pytest.mark.parametrize("n", [1000, 30_011])
def test_how_the_stems_are_cut_changes_nothing(synthesizer, song, monkeypatch, n):
    expected = render(synthesizer, song, loudness=-12).samples

    def recut(*arguments, **settings):
        blocks = list(stream_stems(*arguments, **settings))
        stems = np.concatenate([block.stems for block in blocks], axis=2)
        steps = [step for block in blocks for step in block.steps]
        for start in range(0, stems.shape[2], n):
            now = [step for step in steps if start <= step[3] * RATE < start + n]
            yield Block(start, stems[:, :, start : start + n], ([], [], []), {}, now)

    monkeypatch.setattr(rendering, "stream_stems", recut)
    np.testing.assert_allclose(render(synthesizer, song, loudness=-12).samples, expected, atol=rounding())


@pytest.mark.parametrize("rate", [8000, 48_000])
def test_the_asked_for_pitch_is_there_for_as_long_as_asked_at_any_rate(synthesizer, midi, rate):
    audio = render(synthesizer, midi({"notes": [note(0.5, 2.5)]}), sample_rate=rate)
    middle = audio.samples[0, rate : 2 * rate]
    assert peak_hz(middle, rate) == pytest.approx(440, abs=1)
    assert np.abs(audio.samples[:, : int(0.49 * rate)]).max() < 1e-7
    assert 2.6 < audio.duration < 2.6 + 2.0  # until the room has died away
    assert 0 < np.abs(audio.samples[:, -100:]).max() < 1e-4


def test_pan_and_volume_reach_the_mix(synthesizer, midi):
    dry = [(0, 91, 0)]
    plain = render(synthesizer, midi({"notes": [note()], "controls": dry}), gain_db=0)
    moved = render(synthesizer, midi({"notes": [note()], "controls": [*dry, (0, 10, 0), (0, 7, 50)]}), gain_db=0)
    gains = pan_gains(-1) * (50 / 100) ** 2
    np.testing.assert_allclose(moved.samples[:, :RATE], plain.samples[:, :RATE] * gains[:, None], atol=rounding())


def test_the_usual_room_is_16_db_below_the_sound(synthesizer, midi, tmp_path):
    hits = midi({"notes": [note(t, t + 0.1, 38) for t in np.arange(0, 8, 0.25)], "channel": 9})
    summary = synthesizer.render_file(hits, tmp_path / "a.wav", stems_folder=tmp_path / "stems")
    dry, room = (read_audio(stem).samples for stem in summary.stems)
    assert 10 * np.log10(np.sum(room**2) / np.sum(dry**2)) == pytest.approx(-16, abs=1.5)


def test_a_later_note_never_changes_earlier_sound(synthesizer, midi):
    first = render(synthesizer, midi({"notes": [note(0, 4)]}), gain_db=0).samples
    both = render(synthesizer, midi({"notes": [note(0, 4), note(3, 5, 76)]}), gain_db=0).samples
    n = int(2.99 * RATE)
    np.testing.assert_allclose(both[:, :n], first[:, :n], atol=rounding())
    assert np.abs(both[:, n : 4 * RATE] - first[:, n : 4 * RATE]).max() > 0.01


def test_the_same_seed_gives_the_same_bytes(synthesizer, song, tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        render_file(synthesizer, song, tmp_path / f"{name}.wav", seed=seed, variation=0.5, end=3.0)
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b and a != c


@pytest.mark.parametrize("loudness", [-30, -16])
def test_the_mix_is_as_loud_as_asked(synthesizer, song, tmp_path, loudness):
    audio = render(synthesizer, song, loudness=loudness)
    assert loudness_of(audio) == pytest.approx(loudness, abs=0.3)
    summary = render_file(synthesizer, song, tmp_path / "a.wav", loudness=loudness, subtype="float")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").samples, audio.samples)
    assert summary.loudness == pytest.approx(loudness, abs=0.3) and summary.reduction_db == 0
    assert summary.peak_db == pytest.approx(20 * np.log10(np.abs(audio.samples).max()), abs=1e-3)


def test_the_true_peak_stays_below_the_ceiling_and_the_limiter_is_reported(synthesizer, song, tmp_path):
    summary = render_file(synthesizer, song, tmp_path / "a.flac", loudness=-5)
    assert summary.reduction_db > 0
    audio = read_audio(tmp_path / "a.flac")
    assert true_peak_db(audio) <= -1 + 0.1
    assert summary.loudness == pytest.approx(loudness_of(audio), abs=0.05)


def test_hard_limiting_is_announced(synthesizer, song, tmp_path):
    summary = render_file(synthesizer, song, tmp_path / "a.wav", gain_db=30)
    assert summary.warnings == (
        f"the limiter takes up to {summary.reduction_db:.1f} dB from the loudest moments; a lower loudness keeps them",
    )
    assert true_peak_db(read_audio(tmp_path / "a.wav")) <= -1 + 0.1


def test_a_fixed_gain_is_the_gain(synthesizer, song):
    np.testing.assert_allclose(
        render(synthesizer, song, gain_db=-20).samples,
        render(synthesizer, song, gain_db=-26).samples * 10**0.3,
        atol=rounding(),
    )


def test_a_mix_too_quiet_to_measure_keeps_its_level(synthesizer, midi, tmp_path):
    quiet = midi({"notes": [note(velocity=30)], "controls": [(0, 7, 1)]})
    summary = render_file(synthesizer, quiet, tmp_path / "a.wav", subtype="float")
    assert summary.loudness == -np.inf and summary.gain_db == 0
    assert summary.warnings == ("the mix is too quiet for its loudness to be measured",)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").samples, render(synthesizer, quiet, gain_db=0).samples)


# stems


@pytest.mark.parametrize(
    ("name", "subtype", "stem"),
    [("a.wav", None, "wav"), ("a.flac", "24", "flac"), ("a.wav", "float", "wav"), ("a.ogg", None, "wav")],
)
def test_stems_and_room_add_up_to_the_mix(synthesizer, song, tmp_path, name, subtype, stem):
    folder = tmp_path / "new" / "stems"
    summary = render_file(synthesizer, song, tmp_path / name, stems_folder=folder, subtype=subtype)
    names = ["01 Melody", "02 Bass_ a_b", "03 Standard Kit", "room"]
    assert [path.name for path in summary.stems] == [f"{name}.{stem}" for name in names]
    stems = [read_audio(path).samples for path in summary.stems]
    mix = read_audio(tmp_path / name).samples
    np.testing.assert_allclose(sum(stems), mix, atol=0.05 if name == "a.ogg" else rounding())
    assert peak_hz(stems[0].sum(axis=0)[: RATE // 2], RATE) == pytest.approx(880, abs=4)
    assert summary.loudness == pytest.approx(-16, abs=0.3)


def test_instead_of_limiting_stems_the_gain_gives_way(synthesizer, song, tmp_path):
    summary = render_file(synthesizer, song, tmp_path / "a.wav", stems_folder=tmp_path / "stems", gain_db=40)
    mix = read_audio(tmp_path / "a.wav")
    assert -1.3 < true_peak_db(mix) <= -1 + 0.1
    np.testing.assert_allclose(sum(read_audio(path).samples for path in summary.stems), mix.samples, atol=rounding())
    assert summary.reduction_db == 0 and summary.gain_db < 40
    assert summary.warnings == (
        f"the mix is {40 - summary.gain_db:.1f} dB below what was asked for, so that it has no "
        "peaks above -1 dBTP and the stems still add up to it",
    )


def test_stems_are_silent_where_their_track_is(synthesizer, song, tmp_path):
    summary = render_file(synthesizer, song, tmp_path / "a.wav", stems_folder=tmp_path / "stems")
    drums = read_audio(summary.stems[2]).samples
    assert not drums[:, : int(0.49 * RATE)].any() and drums[:, int(0.5 * RATE) : int(0.6 * RATE)].any()


# excerpts


def test_an_excerpt_is_a_part_of_the_whole(synthesizer, song):
    whole = render(synthesizer, song, gain_db=0).samples[:, 2 * RATE : int(4.5 * RATE)]
    part = render(synthesizer, song, gain_db=0, start=2.0, end=4.5).samples
    n = int(FADE_SECONDS * RATE) + 1
    assert part.shape == whole.shape
    # what was sent to the room over 1.2 s before is no longer looked at: 60 dB below what sounds
    np.testing.assert_allclose(part[:, n:-n], whole[:, n:-n], atol=1e-3 * np.abs(whole).max())
    assert np.abs(part[:, RATE:-n] - whole[:, RATE:-n]).max() < rounding()  # and a second later nothing is missing
    assert (part[:, 0] == 0).all() and np.abs(part[:, -1]).max() < 0.01
    assert np.abs(part[:, n : 2 * n]).max() > 0.05  # the bass, which began long before


def test_an_excerpt_may_end_after_the_music_in_silence(synthesizer, song):
    whole, part = render(synthesizer, song, gain_db=0).samples, render(synthesizer, song, gain_db=0, end=20.0).samples
    assert part.shape[1] == 20 * RATE
    np.testing.assert_array_equal(part[:, : whole.shape[1]], whole)
    assert not part[:, whole.shape[1] :].any()


def test_what_comes_after_an_excerpt_is_not_rendered(synthesizer, midi):
    long = midi({"notes": [note(t, t + 0.5) for t in range(0, 3000, 100)]})
    assert render(synthesizer, long, start=0.2, end=0.7).duration == pytest.approx(0.5, abs=1 / RATE)


# what the user can get wrong


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate": 100}, "sample rate is 100; it goes from 8000 to 192000"),
        ({"variation": -0.1}, "variation is -0.1; it goes from 0 to 1"),
        ({"loudness": 3}, "loudness is 3; it goes from -60 to -5"),
        ({"loudness": np.nan}, "loudness is nan"),
        ({"seed": -1}, "seed is -1; it goes from 0 to 18446744073709551615"),
        ({"seed": 2**64}, "seed is 18446744073709551616; it goes from 0 to 18446744073709551615"),
        ({"gain_db": np.inf}, "gain is inf; it goes from -100 to 100"),
        ({"start": 5, "end": 5}, "an excerpt from 5 to 5 s is empty"),
        ({"start": -1}, "starts at 0 or later"),
        ({"end": np.inf}, "an excerpt from 0 to inf s is empty"),
        ({"start": 77}, "the excerpt starts at 77 s, but the music ends at 6.0 s"),
    ],
)
def test_settings_out_of_range_are_refused_before_rendering(synthesizer, song, no_engine, settings, message):
    with pytest.raises(ConfigError, match=message):
        render(synthesizer, song, **settings)


def test_an_excerpt_before_the_first_note_is_refused(synthesizer, midi, no_engine):
    with pytest.raises(ConfigError, match=r"no note starts before 0\.5 s"):
        stream(synthesizer, midi({"notes": [note(1, 2)]}), end=0.5)


def test_a_score_without_notes_is_refused(synthesizer, song, no_engine):
    with pytest.raises(ScoreError, match="the score holds no notes"):
        render(synthesizer, read_score(song).between(100, 200))


@pytest.mark.parametrize("settings", [{}, {"gain_db": 0.0}, {"stems_folder": "stems"}])
def test_silence_throughout_is_an_error_and_writes_nothing(synthesizer, midi, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    muted = midi({"notes": [note()], "controls": [(0, 7, 0)]})
    with pytest.raises(MiaoError, match="nothing sounds from beginning to end; look at its volumes"):
        render_file(synthesizer, muted, "a.wav", **settings)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_not_overwritten_and_that_is_said_at_once(synthesizer, song, tmp_path, no_engine):
    (tmp_path / "a.wav").write_bytes(b"mine")
    with pytest.raises(AudioError, match=r"a\.wav exists; force=True"):
        render_file(synthesizer, song, tmp_path / "a.wav")
    (tmp_path / "stems").mkdir()
    (tmp_path / "stems" / "room.wav").write_bytes(b"mine")
    with pytest.raises(AudioError, match=r"room\.wav exists; force=True"):
        render_file(synthesizer, song, tmp_path / "b.wav", stems_folder=tmp_path / "stems")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.wav", "room.wav", "stems"]
    assert (tmp_path / "a.wav").read_bytes() == b"mine"


def test_an_output_that_cannot_be_is_refused_at_once(synthesizer, song, tmp_path, no_engine):
    with pytest.raises(AudioError, match="there is no folder"):
        render_file(synthesizer, song, tmp_path / "none" / "a.wav")
    with pytest.raises(AudioError, match=r"\.xyz names no known sound format"):
        render_file(synthesizer, song, tmp_path / "a.xyz")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AudioError, match="file: cannot be made: file exists"):
        render_file(synthesizer, song, tmp_path / "a.wav", stems_folder=tmp_path / "file")
    with pytest.raises(AudioError, match=r"/proc/a\.wav: cannot be written"):  # where even root may not
        render_file(synthesizer, song, "/proc/a.wav")


def test_an_interruption_leaves_everything_as_it_was(synthesizer, song, tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"mine")

    def interrupted(*arguments, **settings):
        yield next(stream_stems(*arguments, **settings))
        raise KeyboardInterrupt

    monkeypatch.setattr(rendering, "stream_stems", interrupted)
    for settings in ({}, {"gain_db": 0.0}, {"stems_folder": tmp_path / "stems"}):
        with pytest.raises(KeyboardInterrupt):
            render_file(synthesizer, song, tmp_path / "a.wav", force=True, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"] and (tmp_path / "a.wav").read_bytes() == b"mine"


class FullDisk:
    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        pass


def test_a_full_disk_in_the_first_pass_is_told_apart(synthesizer, song, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: FullDisk())
    with pytest.raises(AudioError, match=r"the temporary file in .* no space left on device; free some space"):
        render_file(synthesizer, song, tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{}, {"gain_db": 0.0}])
def test_a_full_disk_in_the_second_pass_is_an_error(synthesizer, song, settings):
    with pytest.raises(AudioError, match="/dev/full: cannot be written: no space left on device"):
        render_file(synthesizer, song, "/dev/full", end=2.0, **settings)


# length


def test_progress_rises_to_its_end(synthesizer, song, tmp_path):
    for settings in ({}, {"gain_db": 0.0}, {"stems_folder": tmp_path / "stems"}):
        done: list[float] = []
        render_file(synthesizer, song, tmp_path / "a.wav", force=True, on_progress=done.append, **settings)
        assert done == sorted(done) and 0 < done[0] < 0.5 and done[-1] == 1


def test_the_summary_tells_length_speed_and_tracks(synthesizer, song, tmp_path):
    summary = synthesizer.render_file(song, tmp_path / "a.wav", end=2)
    assert read_audio(tmp_path / "a.wav").sample_rate == 44_100
    assert summary.seconds == read_audio(tmp_path / "a.wav").duration
    assert summary.speed == pytest.approx(summary.seconds / summary.wall_seconds)
    assert [track.programs for track in summary.tracks] == [("Flute",), ("Fingered Bass",), ("Standard Kit",)]


def test_memory_does_not_grow_with_length(toy_bank, midi, tmp_path):
    synthesizer = Synthesizer(toy_bank)

    def most_bytes(seconds):
        score = midi({"notes": [note(t, t + 1) for t in range(seconds)]})
        tracemalloc.start()
        render_file(synthesizer, score, tmp_path / "a.wav", sample_rate=8000, force=True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    most_bytes(5)  # caches
    # both are longer than what the stages may be ahead of each other, which is up to the threads; one copy of the mix
    # that is kept would be half as much again
    assert most_bytes(600) < 1.4 * most_bytes(200)


def test_silence_takes_no_room_in_the_temporary_file(tmp_path):
    rows = np.zeros((3, 2, 1000), np.float32)
    rows[1] = np.linspace(-1, 1, 1000)
    with Spool(tmp_path / "a.wav") as spool:
        for block in (rows * 0, rows, rows[:, :, :10], rows * 0):
            spool.append(block)
        for back, block in zip(spool, (rows * 0, rows, rows[:, :, :10], rows * 0), strict=True):
            np.testing.assert_array_equal(back, block)
        assert spool._file.tell() == 4 * (2 * 1000 + 2 * 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_hours_of_silence_cost_little_time(synthesizer, midi, tmp_path):
    score = midi({"notes": [note(t, t + 1) for t in (0, 3000, 6000)]})
    began = time.process_time()  # of this process: others beside it do not count
    summary = render_file(synthesizer, score, tmp_path / "a.wav", sample_rate=8000)
    assert summary.seconds == pytest.approx(6002, abs=2) and time.process_time() - began < 60


def test_no_stage_is_at_work_when_python_ends():
    """A thread that is in compiled code when Python ends takes the process down with it."""
    stages = rendering.ahead(rendering.ahead(itertools.count(), 1))
    assert next(stages) == 0
    ours = [worker for worker in rendering._at_work if worker.is_alive()]
    assert len(ours) >= 2
    rendering._stop_all()
    assert not any(worker.is_alive() for worker in ours)
    with pytest.raises(RuntimeError, match="Python ends"):
        list(itertools.islice(stages, 10))
    assert not set(ours) & set(rendering._at_work)


def test_what_is_held_back_by_a_tenth_of_a_decibel_is_told_and_what_is_rounding_is_not():
    assert [[line.split(",")[0] for line in _notices(-16.0, db, 0.0)] for db in (0.0, 0.04, 0.1)] == [
        [], [], ["the mix is 0.1 dB below what was asked for"]
    ]  # fmt: skip


@pytest.mark.parametrize(("ask", "said"), [
    (lambda make: make("song.wav", seed=1.5), "seed is 1.5"),
    (lambda make: make("song.wav", end="1"), "end is '1'"),
    (lambda make: make("song.wav", sample_rate="44100"), "sample rate is '44100'"),
    (lambda make: make("song.wav", loudness=None), "loudness is None"),
    (lambda make: make("song.wav", voices="alto-sax"), "voices are 'alto-sax'"),
    (lambda make: make("song.wav", room=3), "room is 3"),
    (lambda make: make("song.wav", "16 bits"), "settings are of type str"),
    (lambda make: make(3), "no path, but of type int"),
    (lambda make: make(""), "an empty name"),
    (lambda make: miao.read_score(make), "no path, but of type"),
    (lambda make: miao.write_score("song.mid", "new.mid"), "no score, but of type str"),
    (lambda make: miao.find_voice(3), "no path, but of type int"),
    (lambda make: miao.Synthesizer.from_pretrained(None), "no path, but of type NoneType"),
    (lambda make: miao.Synthesizer.from_pretrained("gm", programs=[300]), "program is 300"),
    (lambda make: miao.Synthesizer.from_pretrained("gm", programs="violin"), "program is 'v'"),
])  # fmt: skip
def test_what_is_of_the_wrong_type_is_told_in_a_line(synthesizer, midi, ask, said):
    score = miao.read_score(midi({"notes": [(0.0, 0.5, 60, 90)]}))
    with pytest.raises(miao.MiaoError, match=said):
        ask(lambda path, *settings, **changes: synthesizer.render_file(score, path, *settings, **changes))


def test_a_path_is_no_score(synthesizer):
    for source in (None, 3, [1], {}):
        with pytest.raises(miao.ScoreError, match="no path, but of type"):
            synthesizer.render(source)
