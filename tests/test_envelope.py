"""Attack, decay and release as controllers set them: what is heard of them, and that nothing else is."""

import dataclasses

import numpy as np
import pytest
from midi_bytes import GS_ON, XG_ON, control, gs, nonregistered, off, on, program, smf, sysex, track, xg

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.midi.score import read_score
from miao.midi.writing import write_score
from miao.synth.envelope import Envelope, setting
from miao.synth.note import Strike
from miao.synth.player import Player
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems

RATE = 22_050
GUITAR, STRINGS, ORGAN, XYLOPHONE, BELLS = 24, 48, 19, 13, 14
SECOND = 960


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm")


def note(bank, voice, seconds, let_go=None, pitch=60, **how):
    """The sound of one note, [n]."""
    player = Player(bank, (0,), PlaySettings(sample_rate=RATE))
    handle = player.start(Strike(0.0, 0, voice, pitch, 0.7, **how))
    if let_go is not None:
        player.release(handle, let_go)
    return player.block(int(seconds * RATE)).stems[0].mean(axis=0)


def decibels(sound, every=0.02):
    """The level of each stretch of so many seconds."""
    size = int(every * RATE)
    power = np.square(sound[: len(sound) // size * size].astype(np.float64)).reshape(-1, size).mean(axis=1)
    return 10 * np.log10(power + 1e-12)


def test_a_soft_attack_comes_up_along_a_raised_cosine_and_leaves_the_rest(gm):
    plain, soft = (decibels(note(gm, ORGAN, 1.0, attack=attack)) for attack in (0.0, 0.5))  # 0.25 s
    at = (np.arange(len(plain)) + 0.5) * 0.02
    expected = 40 * np.log10(np.sin(np.pi / 2 * np.minimum(at / 0.25, 1)))
    rising = slice(3, 12)
    assert np.abs((soft - plain)[rising] - expected[rising]).max() < 0.5
    assert np.abs((soft - plain)[14:]).max() < 1e-3


@pytest.mark.parametrize("cut", [5, 20, 31])
def test_a_decay_falls_from_the_loudest_row_whichever_chunk_that_ends(cut):
    loudness = np.concatenate([np.linspace(30, 50, cut), np.linspace(49, 20, 64 - cut)])
    rows = np.zeros((64, tk.N_CELLS), np.float32)
    rows[:, :3] = loudness[:, None]
    times = 0.02 * np.arange(64)
    at_once = Envelope(0.0, 0.0, 0.6).held(times, rows)
    envelope = Envelope(0.0, 0.0, 0.6)
    by_chunk = np.concatenate([envelope.held(times[part], rows[part]) for part in (slice(0, cut), slice(cut, 64))])
    np.testing.assert_array_equal(by_chunk, at_once)
    assert at_once[cut - 1, 0] == 50 and at_once[-1, 0] > 25  # it falls half as fast


def test_a_sharp_attack_is_at_its_height_at_once_and_no_louder(gm):
    plain, sharp = (decibels(note(gm, STRINGS, 0.5, attack=attack), 0.005) for attack in (0.0, -1.0))
    assert sharp[1] - plain[1] > 6
    assert sharp.max() < plain.max() + 1.5  # noise, heard for 5 ms at a time
    assert np.abs((sharp - plain)[34:]).max() < 0.1  # behind the first chunk
    plain, sharp = (decibels(note(gm, GUITAR, 0.3, attack=attack), 0.01) for attack in (0.0, -1.0))
    assert np.abs((sharp - plain)[4:]).max() < 0.5  # what begins at its loudest has nothing to come up


def test_a_short_decay_falls_twice_as_fast_and_a_long_one_half_as_fast(gm):
    falls = []
    for decay in (-1.0, 0.0, 1.0):
        level = decibels(note(gm, GUITAR, 1.5, decay=decay), 0.05)
        falls.append(level.max() - level[-4:].mean())
    assert falls[1] > 6
    assert falls[0] / falls[1] == pytest.approx(2, rel=0.15) and falls[2] / falls[1] == pytest.approx(0.5, rel=0.15)


def test_a_release_lasts_four_times_as_long_or_a_quarter(gm):
    def seconds(release):
        sound = decibels(note(gm, STRINGS, 3.0, let_go=0.5, release=release), 0.01)[50:]
        return float(np.argmax(sound < sound[0] - 30))

    short, plain, long = (seconds(release) for release in (-1.0, 0.0, 1.0))
    assert plain > 8 and plain / short == pytest.approx(4, rel=0.3) and long / plain == pytest.approx(4, rel=0.15)


def test_the_nets_are_asked_for_a_long_release_as_for_one_of_its_voice_s_own_length(gm):
    ages = []

    def decode(kind, **inputs):
        if kind == tk.RELEASE:
            ages[-1] += inputs["age"].tolist()
        return gm.decode(kind, **inputs)

    for release in (0.0, 0.7):
        ages.append([])
        note(dataclasses.replace(gm, decode=decode), BELLS, 3.0, let_go=0.3, release=release)
    assert 0 < len(ages[1]) < len(ages[0]) and ages[0][: len(ages[1])] == pytest.approx(ages[1], abs=1e-6)


def test_a_note_that_is_let_go_while_it_comes_up_does_not_jump_to_its_height(gm):
    level = decibels(note(gm, STRINGS, 1.0, let_go=0.2, attack=1.0), 0.01)
    before = level[17:20].max()
    assert (level[20:] < before + 1).all()


def test_a_note_that_falls_slowly_has_no_step_at_its_end(gm):
    player = Player(gm, (0,), PlaySettings(sample_rate=RATE))
    player.start(Strike(0.0, 0, XYLOPHONE, 84, 0.7, decay=1.0))  # which is over soon
    sound = player.block(8 * RATE).stems[0].mean(axis=0)
    assert player.is_silent
    level = decibels(sound, 0.02)
    heard = level > level.max() - 70
    assert np.diff(level)[heard[1:] & heard[:-1]].min() > -12


def stems(gm, data, start=0.0):
    settings = PlaySettings(sample_rate=RATE)
    return np.concatenate([b.stems for b in stream_stems(gm, read_score(data), settings, start=start)], axis=2)


def test_controllers_in_the_middle_change_no_sample_and_moved_ones_do(gm):
    def song(*values):
        controls = [(0, control(n, v)) for n, v in zip((73, 75, 72), values, strict=False)]
        return smf(track(*controls, (0, on(60)), (SECOND // 2, off(60)), (SECOND // 4, on(64)), (SECOND // 2, off(64))))

    plain = stems(gm, song())
    assert np.array_equal(stems(gm, song(64, 64, 64)), plain)
    for values in ((90, 64, 64), (64, 20, 64), (64, 64, 100)):
        other = stems(gm, song(*values))
        n = min(other.shape[2], plain.shape[2])
        assert np.abs(other[..., :n] - plain[..., :n]).max() > 1e-3


def test_what_a_controller_stands_at_when_a_note_starts_counts_for_the_whole_note(gm):
    first, held, last = (0, control(72, 127)), (0, on(60)), (SECOND // 2, off(60))
    early, none = (stems(gm, smf(track(*events))) for events in ((first, held, last), (held, last)))
    late = stems(gm, smf(track(held, (10, control(72, 127)), (SECOND // 2 - 10, off(60)))))
    assert np.array_equal(late, none) and early.shape[2] > none.shape[2]


def test_a_long_release_sounds_the_same_from_its_middle_on(gm):
    events = [(0, control(72, 127)), (0, program(BELLS)), (0, on(60)), (SECOND, off(60)), (8 * SECOND, on(84))]
    data = smf(track(*events, (9, off(84))))
    whole, rest = stems(gm, data)[..., 7 * RATE :], stems(gm, data, 7.0)  # longer than any release is by itself
    n = min(whole.shape[2], rest.shape[2])
    assert np.abs(whole[..., :n] - rest[..., :n]).max() < 10 ** (-90 / 20) * np.abs(whole).max()
    assert np.abs(rest[..., : RATE // 2]).max() > 1e-4


# what files say


def curves(*events):
    return read_score(smf(track(*[(0, event) for event in events], (0, on(60)), (SECOND, off(60))))).tracks[0].controls


@pytest.mark.parametrize(
    ("name", "number", "nrpn", "gs_byte", "xg_byte"),
    [("attack", 73, 99, 0x34, 0x1A), ("decay", 75, 100, 0x35, 0x1B), ("release", 72, 102, 0x36, 0x1C)],
)
def test_files_set_them_by_controllers_by_nrpns_and_by_the_messages_of_parts(name, number, nrpn, gs_byte, xg_byte):
    def value(*events):
        return round(127 * float(curves(*events)[name].at(0.0)))

    assert value() == 64 and value(control(number, 100)) == 100
    assert value(*nonregistered(1, nrpn, 80)) == 80
    assert value(control(number, 100), *nonregistered(1, nrpn, 54)) == 90  # they add up
    assert value(sysex(GS_ON), gs(0x40, 0x11, gs_byte, 30)) == 30
    assert value(sysex(XG_ON), xg(8, 0, xg_byte, 90)) == 90
    assert value(control(number, 100), control(121, 0)) == 100  # RP-015 leaves sound controllers
    assert value(control(number, 100), sysex(GS_ON)) == 64


def test_they_are_written_to_files_and_read_again(tmp_path):
    score = read_score(smf(track((0, control(73, 90)), (0, control(75, 10)), (0, on(60)), (SECOND, off(60)))))
    write_score(score, tmp_path / "again.mid")
    again = read_score(tmp_path / "again.mid").tracks[0].controls
    assert [round(127 * float(again[n].at(0.5))) for n in ("attack", "decay", "release")] == [90, 10, 64]


def test_a_setting_goes_from_minus_one_over_nothing_at_64_to_one():
    assert [setting(v / 127) for v in (0, 32, 64, 127)] == pytest.approx([-1, -0.5, 0, 1])
    assert setting(64 / 127) == 0
