"""What a file asks for, as sound: chokes, cuts, pedals, the rest before the end, loops, sends, MPE's stem."""

import numpy as np
import pytest
from midi_bytes import control, gs, nonregistered, off, on, program, registered, smf, sysex, track

from miao.midi.score import read_score
from miao.sound.audio import read_audio

RATE = 44_100


def sound(synthesizer, *events, **settings):
    return synthesizer.render(read_score(smf(track(*events))), gain_db=0.0, **settings).samples


def level(samples, begin, end):
    return float(np.sqrt(np.mean(samples[:, round(begin * RATE) : round(end * RATE)] ** 2)))


DRY = [(0, control(91, 0))]
CRASH = [(0, control(91, 0, 9)), (0, on(49, channel=9)), (48, off(49, 9))]


def test_all_sound_off_silences_a_ringing_drum(synthesizer):
    cut = sound(synthesizer, *CRASH, (0, control(120, 0, 9)), (960, on(38, channel=9)), (9, off(38, 9)))
    whole = sound(synthesizer, *CRASH, (960, on(38, channel=9)), (9, off(38, 9)))
    assert level(cut, 0.08, 0.14) < 0.01 * level(whole, 0.08, 0.14)


def test_a_hi_hat_is_choked_by_one_in_another_track(synthesizer):
    def played(second):
        first = [(0, control(91, 0, 9)), (0, on(46, channel=9)), (96, off(46, 9))]
        tracks = first, [(48, on(second, channel=9)), (9, off(second, 9))]
        return synthesizer.render(read_score(smf(*(track(*t) for t in tracks))), gain_db=0.0).samples

    def alone(key):
        return sound(synthesizer, (0, control(91, 0, 9)), (48, on(key, channel=9)), (9, off(key, 9)))

    after = round(0.08 * RATE)  # the first has faded 20 ms after the second began
    choked, by_itself = played(42)[:, after:], alone(42)[:, after:]
    n = min(choked.shape[1], by_itself.shape[1])
    np.testing.assert_allclose(choked[:, :n], by_itself[:, :n], atol=1e-6)
    assert level(played(38), 0.08, 0.13) > 1.001 * level(alone(38), 0.08, 0.13)


def test_a_rest_before_the_end_is_rendered_and_a_later_end_lengthens(synthesizer):
    events = [*DRY, (0, on(69)), (480, off(69))]
    assert sound(synthesizer, *events, (4320, b"\xff\x01\x00")).shape[1] == 5 * RATE
    assert sound(synthesizer, *events, end=8.0).shape[1] == 8 * RATE


def test_a_loop_ends_exactly_and_what_sounds_on_lies_over_its_beginning(synthesizer):
    events = [(0, control(91, 127)), (480, on(69)), (1440, off(69)), (0, b"\xff\x01\x00")]
    plain, loop = sound(synthesizer, *events), sound(synthesizer, *events, loop=True)
    assert loop.shape[1] == 2 * RATE < plain.shape[1]
    folded = plain[:, : 2 * RATE].copy()
    tail = plain[:, 2 * RATE :]
    for begin in range(0, tail.shape[1], 2 * RATE):
        part = tail[:, begin : begin + 2 * RATE]
        folded[:, : part.shape[1]] += part
    np.testing.assert_allclose(loop, folded, atol=1e-5)
    assert np.abs(loop[:, : RATE // 10]).max() > 1e-4  # the room of the round before


def test_a_loop_shorter_than_its_tail_takes_it_in_many_rounds(synthesizer):
    events = [(0, control(91, 127)), (0, on(69)), (96, off(69)), (0, b"\xff\x01\x00")]
    loop = sound(synthesizer, *events, loop=True)
    assert loop.shape[1] == RATE // 10 and np.isfinite(loop).all() and np.abs(loop).max() > 0


def test_chorus_is_heard_and_none_is_the_same_as_no_controller(synthesizer):
    events = [*DRY, (0, on(69)), (960, off(69))]
    plain, none = sound(synthesizer, *events), sound(synthesizer, (0, control(93, 0)), *events)
    np.testing.assert_array_equal(plain, none)
    full = sound(synthesizer, (0, control(93, 127)), *events)
    assert np.abs(full[:, : plain.shape[1]] - plain).max() > 0.1 * np.abs(plain).max()


def test_a_restrike_under_the_pedal_leaves_the_hard_stroke_sounding(synthesizer):
    hard = [*DRY, (0, control(64, 127)), (0, on(60, 120)), (240, off(60))]
    soft = [(480, on(60, 10)), (240, off(60)), (960, control(64, 0))]
    both, alone = sound(synthesizer, *hard, *soft), sound(synthesizer, *hard, (1680, control(64, 0)))
    assert level(both, 1.0, 1.5) > 0.8 * level(alone, 1.0, 1.5)


@pytest.mark.parametrize("pan", [1, 20, 90, 127])
def test_a_drum_key_that_is_moved_aside_is_as_loud_as_a_channel_that_is(synthesizer, pan):
    def hit(*settings):
        return sound(
            synthesizer, *((0, e) for e in (control(91, 0, 9), *settings)), (0, on(38, channel=9)), (48, off(38, 9))
        )

    key, channel = hit(*nonregistered(28, 38, pan, 9)), hit(control(10, pan, 9))
    assert np.abs(key).max() > 1e-3
    np.testing.assert_allclose(key, channel, atol=1e-4 * np.abs(channel).max())


A_UP = [64] * 9 + [104] + [64] * 2  # A 40 cents up, of a scale
NOW = [
    (sysex(bytes([0x7F, 0x7F, 8, 8, 3, 127, 127, *A_UP])), 40),
    (sysex(bytes([0x7F, 0x7F, 8, 9, 0, 0, 1, *[64, 0] * 9, 89, 77, *[64, 0] * 2])), 40),
    (sysex(bytes([0x7F, 0x7F, 8, 2, 0, 1, 69, 69, 0x33, 0x1A])), 40),
    (sysex(bytes([0x7F, 0x7F, 8, 7, 0, 0, 1, 69, 72, 0, 0])), 300),
    (sysex(bytes([0x7F, 0x7F, 4, 3, 0, 0x50])), 25),
]


def pitch_cents(samples, begin, end):
    """Where the strongest partial lies, cents above A4."""
    tone = samples[0, round(begin * RATE) : round(end * RATE)]
    spectrum = np.log(np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 8 * len(tone))) + 1e-9)
    return 1200 * np.log2(spectrum.argmax() * RATE / (8 * len(tone)) / 440)


def retuned(synthesizer, message, after=(), pitch=69):
    """A note of a second, and what comes in its middle; another one behind it."""
    events = [*DRY, (0, on(pitch)), (480, message), *after, (480, off(pitch)), (240, on(pitch)), (720, off(pitch))]
    return sound(synthesizer, *events)


@pytest.mark.parametrize(("message", "cents"), NOW)
def test_tuning_in_real_time_moves_what_sounds(synthesizer, message, cents):
    samples = retuned(synthesizer, message)
    measured = [pitch_cents(samples, *span) for span in ((0.1, 0.48), (0.52, 0.9), (1.3, 1.8))]
    assert measured == pytest.approx([0, cents, cents], abs=1)
    other = retuned(synthesizer, message, pitch=64)
    if message[4] == 8:  # a scale, or one key
        assert pitch_cents(other, 0.52, 0.9) == pytest.approx(-500, abs=1)


def test_a_second_tuning_moves_from_the_first_and_steps_do_not_click(synthesizer):
    back = sysex(bytes([0x7F, 0x7F, 8, 8, 3, 127, 127, *[64] * 12]))
    samples = retuned(synthesizer, NOW[3][0], [(120, sysex(bytes([0x7F, 0x7F, 8, 2, 0, 1, 69, 68, 0, 0]))), (60, back)])
    assert pitch_cents(samples, 0.5, 0.6) == pytest.approx(300, abs=2)
    assert pitch_cents(samples, 0.7, 1.1) == pytest.approx(-100, abs=1)
    plain = retuned(synthesizer, control(3, 0), [(180, control(3, 0))])
    assert np.abs(np.diff(samples[0], 2)).max() < 1.5 * np.abs(np.diff(plain[0], 2)).max()


@pytest.mark.parametrize("message", [
    sysex(bytes([0x7E, 0x7F, 8, 8, 3, 127, 127, *A_UP])), sysex(bytes([0x7E, 0x7F, 8, 7, 0, 0, 1, 69, 69, 0x33, 0x1A])),
    gs(0x40, 0x11, 0x49, 104),
])  # fmt: skip
def test_other_tuning_waits_for_the_next_note(synthesizer, message):
    samples = retuned(synthesizer, message)
    assert pitch_cents(samples, 0.52, 0.9) == pytest.approx(0, abs=1)
    assert pitch_cents(samples, 1.3, 1.8) == pytest.approx(40, abs=1)


def test_fine_and_coarse_tuning_move_what_sounds(synthesizer):
    fine = [(0, event) for event in registered(1, 96)]
    coarse = [(0, event) for event in registered(2, 66)]
    assert pitch_cents(retuned(synthesizer, control(3, 0), fine), 0.52, 0.9) == pytest.approx(50, abs=1)
    assert pitch_cents(retuned(synthesizer, control(3, 0), coarse), 0.52, 0.9) == pytest.approx(200, abs=1)


def test_mpe_members_of_one_track_are_one_stem(synthesizer, tmp_path):
    notes = [event for c in (1, 2, 9) for event in ((0, on(60 + c, channel=c)), (480, off(60 + c, c)))]
    score = read_score(smf(track(*((0, e) for e in registered(6, 15)), (0, program(73)), *notes)))
    summary = synthesizer.render_file(score, tmp_path / "a.wav", stems_folder=tmp_path / "stems")
    assert [path.name for path in summary.stems] == ["01 Flute.wav", "room.wav"]
    stem = read_audio(summary.stems[0]).samples
    assert all(level(stem, t + 0.1, t + 0.4) > 0 for t in (0.0, 0.5, 1.0))


@pytest.mark.parametrize("key", [22, 88, 104])
def test_keys_that_the_kit_lacks_are_silent(synthesizer, key):
    snare = [(0, control(91, 0, 9)), (960, on(38, channel=9)), (48, off(38, 9))]
    played = sound(synthesizer, (0, on(key, channel=9)), (9, off(key, 9)), *snare)
    assert not played[:, : int(0.9 * RATE)].any() and played.any()
