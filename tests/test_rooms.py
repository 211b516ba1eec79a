import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from conftest import rounding
from midi_bytes import off, on, smf, track
from typer.testing import CliRunner

from miao.bank.bank import Bank
from miao.cli.main import app
from miao.cli.room import _of_own_rendering
from miao.errors import ConfigError, MiaoError
from miao.measuring.known_sound import alike, room_of_known
from miao.measuring.rooms import USUAL_DB, response_of_sweep, room_from_clap
from miao.sound.audio import Audio
from miao.sound.decay import DIRECT_SECONDS, measure_octaves, octave_band
from miao.sound.room import BAND_HZ, CHANGE_SECONDS, ChangingRoom, DrawnRoom, Room
from miao.sound.rooms import changed, find_room, read_room, response_room, room_paths, save_room
from miao.synth.synthesizer import Synthesizer

RATE = 16_000
BY_FFT = rounding(10, 16)  # a convolution by FFT of up to 2^16 points, of sounds whose norms multiply to ten
SMALL = DrawnRoom(0.4)
NAMES = ("booth", "studio", "chamber", "club", "hall", "church", "plate", "outdoors")


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], prog_name="miao")


def noise(seconds, seed=0, rate=RATE):
    return np.random.default_rng(seed).standard_normal((2, int(seconds * rate))).astype(np.float32)


def dying_noise(t60, seconds, rate, seed=0, floor=0.0):
    rng, n = np.random.default_rng(seed), int(seconds * rate)
    fall = 10 ** (-3 * np.arange(n) / rate / t60)
    return (rng.standard_normal((1, n)) * fall + floor * rng.standard_normal((1, n))).astype(np.float32)


def box_response(rate, size, source, ears, reflection, seconds, speed=343.0):
    """Images of a source in a box [ears, S] (Allen and Berkley), in plain loops over the images of all three axes."""
    reach = [int(np.ceil(seconds * speed / (2 * side))) for side in size]
    per_axis = []
    for side, place, n in zip(size, source, reach, strict=True):
        k = np.arange(-n, n + 1)
        per_axis.append((np.concatenate([2 * k * side + place, 2 * k * side - place]),
                         np.concatenate([2 * np.abs(k), np.abs(2 * k - 1)])))  # fmt: skip
    response = np.zeros((len(ears), int(seconds * rate)))
    (xs, nx), (ys, ny), (zs, nz) = per_axis
    for number, (ex, ey, ez) in enumerate(ears):
        flat = np.sqrt((xs[:, None] - ex) ** 2 + (ys[None] - ey) ** 2).ravel()
        bounced = (nx[:, None] + ny[None]).ravel()
        for z, n in zip(zs, nz, strict=True):
            far = np.sqrt(flat**2 + (z - ez) ** 2)
            at = (far / speed * rate).astype(int)
            inside = at < response.shape[1]
            strength = reflection ** (bounced[inside] + n) / np.maximum(far[inside], 0.1)
            np.add.at(response[number], at[inside], strength)
    return response


# reverberation time


@pytest.mark.parametrize("t60", [0.4, 1.2, 3.0])
@pytest.mark.parametrize("floor", [0.0, 1e-3])
def test_the_reverberation_time_of_noise_that_dies_away_is_found(t60, floor):
    found = [o.t60_seconds for o in measure_octaves(dying_noise(t60, 1.6 * t60, 44_100, floor=floor), 44_100)]
    # what one drawing of noise has spreads: 1 / sqrt(bandwidth x time), 10 % at 250 Hz and 0.4 s, 2 % at 4 kHz
    np.testing.assert_allclose(found[2:], t60, rtol=0.13)
    np.testing.assert_allclose(found[5:8], t60, rtol=0.05)


def test_octaves_of_which_nothing_is_known_have_no_time():
    octaves = measure_octaves(dying_noise(0.5, 1, 8000), 8000)
    assert [bool(np.isfinite(o.t60_seconds)) for o in octaves[5:]] == [True, False, False, False]
    assert octaves[5].range_db > 0
    flat = measure_octaves(noise(1, rate=44_100), 44_100)
    assert not any(np.isfinite(o.t60_seconds) for o in flat[2:])
    assert not any(o.range_db for o in [*octaves[6:], *flat[2:]])


def test_a_recording_that_ends_before_the_noise_is_followed_to_its_end():
    found = [o.t60_seconds for o in measure_octaves(dying_noise(4.0, 2.5, 44_100), 44_100)]
    np.testing.assert_allclose(found[4:8], 4.0, rtol=0.06)


# rooms of the package, files


def test_there_are_eight_rooms_and_each_says_where_its_numbers_come_from():
    assert set(room_paths()) >= set(NAMES)
    for name in NAMES:
        path = room_paths()[name]
        room, about = read_room(path)
        assert about["name"] == name and len(about["origin"]) > 20 and path.stat().st_size < 2048
        assert room == find_room(name)


def test_the_hall_is_the_room_that_plays_unasked():
    assert find_room("hall") == DrawnRoom()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("outdoors", "booth")])
def test_a_room_decays_as_its_numbers_say(name):
    room = find_room(name)
    octaves = measure_octaves(room.response(22_050).reshape(4, -1), 22_050)  # the octaves up to 4 kHz
    found = np.array([o.t60_seconds for o in octaves]) / room.t60_seconds
    np.testing.assert_allclose(found[3:6], room.decays[3:6], rtol=0.06)


def test_what_comes_first_may_lie_above_the_line_of_the_tail():
    plain = replace(SMALL, reflections=0.0)
    raised = replace(plain, early_db=(0.0, 0.0, 0.0, 0.0, 6.0, 0.0, 0.0, 0.0, 0.0))
    parts = []
    for room in (plain, raised):
        band = np.square(octave_band(room.response(RATE).reshape(4, -1), RATE, 1000)).sum(axis=0)
        early, late = (band[int(a * RATE) : int(b * RATE)].sum() for a, b in ((0.0, 0.12), (0.2, 0.35)))
        parts.append(10 * np.log10(early / late))
    assert 4 < parts[1] - parts[0] < 6.5  # neighbouring octaves reach into the band


def test_all_rooms_are_as_loud_as_what_is_sent_but_for_their_gain():
    for name in NAMES:
        response = find_room(name).response(RATE)
        hz = np.fft.rfftfreq(response.shape[-1], 1 / RATE)
        power = np.abs(np.fft.rfft(response)[..., (hz >= 200) & (hz <= 2000)]) ** 2
        np.testing.assert_allclose(power.mean(axis=2).sum(axis=1), 1, rtol=1e-3)


def test_a_narrow_room_says_the_same_to_both_ears():
    wide, narrow = (replace(SMALL, width=w, reflections=0.0).response(RATE) for w in (1.0, 0.0))
    np.testing.assert_allclose(narrow[0], narrow[1], rtol=1e-4, atol=1e-6)
    assert abs(np.corrcoef(wide[0, 0], wide[1, 0])[0, 1]) < 0.1


def test_a_room_is_written_and_read_back(tmp_path):
    room = replace(SMALL, predelay_seconds=0.02, width=0.5, gain_db=3.0)
    save_room(tmp_path / "mine.toml", room, {"name": "mine", "origin": 'a "quoted" cellar'})
    read, about = read_room(tmp_path / "mine.toml")
    assert read == room and about["origin"] == 'a "quoted" cellar'
    assert find_room("mine", tmp_path) == room == find_room(tmp_path / "mine.toml")
    with pytest.raises(ConfigError, match="exists"):
        save_room(tmp_path / "mine.toml", room, {})
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("t60_seconds = 100.0", "t60_seconds is 100; it goes from 0.05 to 20"),
        ("decays = [1.0]", "decays are 9 numbers"),
        ("colour = 3", '"colour" is not a setting|colour'),
        ("width = 2.0", "width is 2"),
    ],
)
def test_a_room_that_makes_no_sense_is_refused(tmp_path, change, says):
    path = tmp_path / "odd.toml"
    path.write_text(f'[about]\nformat = "miao room 1"\n[room]\n{change}\n')
    with pytest.raises(ConfigError, match=says):
        find_room(path)


def test_what_is_no_room_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'no room "cave"; there are .*hall.*none'):
        find_room("cave")
    (tmp_path / "a.toml").write_text("[room]\n")
    with pytest.raises(ConfigError, match="not a room"):
        find_room(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text("[room\n")
    with pytest.raises(ConfigError, match="not a readable room"):
        find_room(tmp_path / "b.toml")


# knobs


def test_no_room_is_no_room():
    assert find_room("none") is None and changed(None, 2.0, 3.0) is None and changed(SMALL, wet=0) is None
    assert changed(SMALL) is SMALL


def test_wet_is_a_factor_and_t60_the_time_at_1_khz():
    sent = noise(0.3)
    plain = Room(RATE, SMALL).process(sent)
    np.testing.assert_allclose(Room(RATE, changed(SMALL, wet=0.5)).process(sent), 0.5 * plain, atol=BY_FFT)
    longer = changed(SMALL, 1.5).response(44_100).reshape(4, -1)
    assert measure_octaves(longer, 44_100)[4].t60_seconds == pytest.approx(1.5, rel=0.06)
    with pytest.raises(ConfigError, match="t60 is 30"):
        changed(SMALL, 30.0)
    with pytest.raises(ConfigError, match="wet is -1"):
        changed(SMALL, wet=-1.0)


# impulse responses


def test_a_recorded_response_is_heard_without_its_direct_sound():
    tail = dying_noise(0.5, 0.8, RATE)
    tail[:, : int(0.005 * RATE)] = 0
    recorded = np.concatenate([np.zeros((1, 700), np.float32), 0.02 * tail], axis=1)
    recorded[0, 700] = 0.9
    room = response_room(Audio(recorded, RATE))
    assert room.t60_seconds == pytest.approx(0.5, rel=0.08)
    response = room.response(RATE)
    assert not response[0, 1].any() and not response[1, 0].any()
    onset = RATE // 1000  # a millisecond is left before the direct sound
    assert not response[0, 0, : onset + 20].any()
    likeness = np.corrcoef(response[0, 0, onset + 80 : onset + 8000], tail[0, 80:8000])[0, 1]
    assert likeness > 0.99


def test_channels_of_a_response_are_ears_and_speakers():
    tails = np.concatenate([dying_noise(0.4, 0.6, RATE, seed) for seed in range(4)]) * 0.05
    tails[:, 0] = 1.0
    two = response_room(Audio(tails[:2], RATE)).response(RATE)
    np.testing.assert_allclose(two[:, 0], two[:, 1], atol=1e-6)  # either speaker
    assert abs(np.corrcoef(two[0, 0], two[1, 0])[0, 1]) < 0.1
    four = response_room(Audio(tails, RATE)).responses
    np.testing.assert_allclose(four[1, 0, 200:], tails[1, 200:])  # left speaker, right ear
    direct, onset = round(DIRECT_SECONDS * RATE), int(np.argmax(np.abs(tails[:4]).max(axis=0) > 0.5)) - RATE // 1000
    plain = tails[0, max(onset, 0) :]
    np.testing.assert_array_equal(four[0, 0, 2 * direct : 5000], plain[2 * direct : 5000])  # faded in, then as it is
    assert not four[..., :direct].any() and abs(four[0, 0, 2 * direct - 5]) < abs(plain[2 * direct - 5])
    with pytest.raises(MiaoError, match="3 channels"):
        response_room(Audio(tails[:3], RATE))


def test_a_recorded_room_has_a_reverberation_time_to_turn():
    tail = dying_noise(1.0, 1.5, RATE) * 0.05
    tail[:, 0] = 1
    room = response_room(Audio(tail, RATE))
    dry = measure_octaves(changed(room, 0.5).response(RATE).reshape(4, -1), RATE)
    assert dry[4].t60_seconds == pytest.approx(0.5, rel=0.06)


def test_a_recorded_room_is_the_same_at_every_sample_rate():
    tails = np.concatenate([dying_noise(0.4, 0.6, RATE, seed) for seed in range(4)]) * 0.05
    tails[:, 0] = 1.0
    room = response_room(Audio(tails, RATE))
    low, high = (np.fft.rfft(room.response(rate), rate)[..., 50:6000] for rate in (RATE, 2 * RATE))  # bins of 1 Hz
    for ear in range(2):
        for speaker in range(2):
            one, other = low[ear, speaker], high[ear, speaker]
            assert abs(np.vdot(one, other)) / np.linalg.norm(one) / np.linalg.norm(other) > 0.99
            assert np.linalg.norm(other) == pytest.approx(np.linalg.norm(one), rel=0.02)


def test_silence_and_a_click_are_no_responses():
    with pytest.raises(MiaoError, match="silent"):
        response_room(Audio(np.zeros((1, RATE)), RATE))
    click = np.zeros((1, RATE), np.float32)
    click[0, 100] = 1
    with pytest.raises(MiaoError, match="no decay"):
        response_room(Audio(click, RATE))


# rooms that change


def test_a_room_that_never_changes_is_the_room():
    sent = noise(0.5)
    np.testing.assert_array_equal(ChangingRoom(RATE, SMALL).process(sent), Room(RATE, SMALL).process(sent))
    assert not ChangingRoom(RATE, None).process(sent).any()


def test_a_change_alters_nothing_before_it_and_what_sounded_sounds_on():
    sent = noise(1.0)
    sent[:, RATE // 2 :] = 0
    room = ChangingRoom(RATE, SMALL)
    first = room.process(sent[:, : RATE // 2])
    room.change(DrawnRoom(0.3, seed=5))
    heard = np.concatenate([first, room.process(sent[:, RATE // 2 :])], axis=1)
    np.testing.assert_allclose(heard, Room(RATE, SMALL).process(sent), atol=BY_FFT)


def test_after_a_change_only_the_new_room_answers():
    other = DrawnRoom(0.3, seed=5)
    sent = noise(1.0)
    sent[:, : RATE // 2] = 0
    begun = RATE // 2 - int(CHANGE_SECONDS * RATE)
    room = ChangingRoom(RATE, SMALL)
    room.process(sent[:, :begun])
    room.change(other)
    heard = room.process(sent[:, begun:])
    np.testing.assert_allclose(heard, Room(RATE, other).process(sent)[:, begun:], atol=BY_FFT)


def test_the_tail_of_changing_rooms_is_what_all_of_them_still_hold():
    sent = noise(0.2)
    rooms = [ChangingRoom(RATE, SMALL) for _ in range(2)]
    for room in rooms:
        room.process(sent)
        room.change(DrawnRoom(0.3, seed=5))
        room.process(sent)
    n = rooms[0].n_tail
    tail, after = rooms[0].tail(), rooms[1].process(np.zeros((2, n), np.float32))
    assert np.abs(tail).max() > 0.1 and np.abs(rooms[0].process(np.zeros((2, RATE), np.float32))).max() < BY_FFT
    np.testing.assert_array_equal(tail, after)


def test_a_change_does_not_click():
    time = np.arange(2 * RATE) / RATE
    sent = np.stack([np.sin(2 * np.pi * 200 * time)] * 2).astype(np.float32)
    room = ChangingRoom(RATE, SMALL)
    pieces = [room.process(sent[:, :RATE])]
    room.change(DrawnRoom(0.4, seed=3))
    pieces.append(room.process(sent[:, RATE:]))
    heard = np.concatenate(pieces, axis=1)
    bend = np.abs(np.diff(heard, n=2, axis=1))
    assert bend[:, RATE - 200 : RATE + 2000].max() < 1.5 * bend[:, RATE // 2 : RATE - 200].max()


def test_changes_may_follow_each_other_and_do_not_depend_on_blocks():
    sent, rooms = noise(1.0), [DrawnRoom(0.2, seed=1), None, DrawnRoom(0.3, seed=2)]
    takes = []
    for cut in (320, 7):
        room, pieces = ChangingRoom(RATE, SMALL, 1024), []
        for number, acoustics in enumerate([SMALL, *rooms]):
            if number:
                room.change(acoustics)
            starts = range(480 * number, 480 * (number + 1), cut)
            pieces += [room.process(sent[:, at : min(at + cut, 480 * (number + 1))]) for at in starts]
        takes.append(np.concatenate([*pieces, room.process(sent[:, 4 * 480 :])], axis=1))
    np.testing.assert_allclose(takes[0], takes[1], atol=BY_FFT)
    assert np.isfinite(takes[0]).all()


# learning a room


def clapped(room, rate, seed=0, floor=1e-5, level_db=-6.0, seconds=None):
    """A clap in a drawn room, with noise under it: [2, S]."""
    rng = np.random.default_rng(seed)
    response = room.response(rate).sum(axis=1)
    n = response.shape[1] + int(rate * (seconds or 1.5))
    sent = np.zeros(n)
    sent[rate // 10 : rate // 10 + 30] = rng.standard_normal(30) * np.exp(-np.arange(30) / 8)
    size = 2 * n
    wet = np.fft.irfft(np.fft.rfft(response, size) * np.fft.rfft(sent, size), size)[:, :n]
    heard = sent + 10 ** (level_db / 20) * wet
    heard = heard / np.abs(heard).max() * 0.9
    return Audio(heard + floor * rng.standard_normal(heard.shape), rate)


@pytest.mark.parametrize(
    "name", ["studio", *(pytest.param(n, marks=pytest.mark.slow) for n in ("club", "chamber", "hall", "plate"))]
)
def test_a_room_of_ours_is_learnt_back_from_a_clap(name):
    room = find_room(name)
    learnt = room_from_clap(clapped(room, 44_100)).room
    true, found = (measure_octaves(r.response(44_100).reshape(4, -1), 44_100) for r in (room, learnt))
    times = np.array([f.t60_seconds / t.t60_seconds for f, t in zip(found, true, strict=True)])
    assert np.median(np.abs(times[1:7] - 1)) < 0.05 and np.abs(times[3:7] - 1).max() < 0.1
    levels = np.array([f.energy_db - t.energy_db for f, t in zip(found, true, strict=True)])[1:7]
    levels += learnt.gain_db - (-6.0 - USUAL_DB)
    assert np.median(np.abs(levels)) < 1.3 and np.abs(levels).max() < 2.5


def test_a_room_that_is_learnt_begins_and_gathers_as_it_does():
    slow = replace(find_room("studio"), predelay_seconds=0.03, build_up_seconds=0.05, reflections=0.0)
    soon, late = (room_from_clap(clapped(room, 44_100)).room for room in (find_room("studio"), slow))
    assert soon.predelay_seconds < 0.008 and soon.build_up_seconds < 0.025
    assert late.predelay_seconds == pytest.approx(0.03, abs=0.005) and 0.03 < late.build_up_seconds < 0.07


def test_a_room_of_boards_is_learnt_from_its_images():
    rate = 16_000
    ears = [(3.1, 2.2, 1.4), (3.3, 2.2, 1.4)]
    response = box_response(rate, (7.1, 5.3, 3.2), (1.6, 3.1, 1.7), ears, 0.88, 0.9)
    response = np.pad(response, ((0, 0), (0, rate)))
    response += 3e-6 * response.max() * np.random.default_rng(0).standard_normal(response.shape)
    learnt = room_from_clap(Audio(0.5 * response / response.max(), rate))
    clean = measure_octaves(response, rate)
    found = measure_octaves(replace(learnt.room, gain_db=0).response(44_100).reshape(4, -1), 44_100)
    ratios = [f.t60_seconds / c.t60_seconds for f, c in zip(found[2:6], clean[2:6], strict=True)]
    np.testing.assert_allclose(ratios, 1, atol=0.12)
    assert abs(np.median(ratios) - 1) < 0.05


def test_a_room_learnt_tells_what_it_could_not_hear():
    rumble = clapped(find_room("club"), 44_100)
    hum = 0.02 * np.sin(2 * np.pi * 70 * np.arange(rumble.samples.shape[1]) / 44_100)
    learnt = room_from_clap(Audio(rumble.samples + hum, 44_100))
    assert any("63" in remark and "usual room" in remark for remark in learnt.remarks)
    far = room_from_clap(clapped(find_room("club"), 44_100, level_db=6.0))
    assert any("--wet" in remark for remark in far.remarks)
    assert far.level_db == pytest.approx(6.0, abs=1.5)


def test_only_one_clap_of_several_counts():
    one = clapped(find_room("studio"), 44_100, seconds=0.8).samples
    both = Audio(np.concatenate([0.5 * one, one], axis=1), 44_100)
    first = Audio(np.concatenate([one, 0.5 * one], axis=1), 44_100)
    times = [room_from_clap(a).room.t60_seconds for a in (Audio(one, 44_100), both, first)]
    np.testing.assert_allclose(times, times[0], rtol=0.05)


def test_a_sweep_is_taken_back_to_a_clap():
    rate, room = 16_000, find_room("studio")
    time = np.arange(3 * rate) / rate
    sweep = 0.5 * np.sin(2 * np.pi * 40 * 3 / np.log(190) * (np.exp(time * np.log(190) / 3) - 1)).astype(np.float32)
    response = room.response(rate).sum(axis=1)
    response[:, 0] += 1.5
    n = len(sweep) + rate
    heard = np.fft.irfft(np.fft.rfft(response, 2 * n) * np.fft.rfft(sweep, 2 * n), 2 * n)[:, :n]
    found = response_of_sweep(Audio(heard.astype(np.float32), rate), Audio(sweep[None], rate))
    learnt = room_from_clap(found)
    assert learnt.room.t60_seconds == pytest.approx(room.t60_seconds, rel=0.08)
    with pytest.raises(MiaoError, match="at 8000 Hz, its recording at 16000"):
        response_of_sweep(found, Audio(sweep[None], 8000))


@pytest.mark.parametrize(
    ("sound", "says"),
    [
        (np.zeros((1, 44_100)), "silent"),
        (0.1 * noise(2, rate=44_100), "no decay can be followed"),
        (np.eye(1, 44_100, 400), "dry|no decay"),
        (0.5 * dying_noise(1, 0.05, 44_100), "ends"),
    ],
)
def test_what_holds_no_room_is_said_to(sound, says):
    with pytest.raises(MiaoError, match=says):
        room_from_clap(Audio(sound, 44_100))


# rendering


def test_a_song_is_played_in_the_room_wished_for(toy_bank, song):
    def play(**wishes):
        return Synthesizer(toy_bank).render(song, sample_rate=16_000, gain_db=0.0, **wishes).samples

    usual, dry = play(), play(room="none")
    np.testing.assert_array_equal(play(room="hall"), usual)
    np.testing.assert_array_equal(play(wet=0.0), dry)
    assert play(room="church").shape[1] > usual.shape[1] > dry.shape[1]
    n = dry.shape[1]
    wet = usual[:, :n] - dry
    np.testing.assert_allclose(play(wet=0.5)[:, :n] - dry, 0.5 * wet, atol=1e-5)
    np.testing.assert_allclose(play(room=DrawnRoom(0.9))[:, :n], play(t60=0.9)[:, :n], atol=1e-6)
    with pytest.raises(ConfigError, match="t60 is 50"):
        play(t60=50.0)


def test_the_command_finds_rooms_by_name_and_in_a_folder(run, tmp_path, monkeypatch, toy_bank, song):
    monkeypatch.setattr(Bank, "load", staticmethod(lambda name, programs=None: toy_bank))
    (tmp_path / "song.mid").write_bytes(song)
    save_room(tmp_path / "rooms" / "mine.toml", SMALL, {"name": "mine"})
    for words in (["--room", "none"], ["--room", "mine", "--rooms", tmp_path / "rooms", "--t60", "0.2", "--wet", "2"]):
        result = run(
            "render", tmp_path / "song.mid", "-o", tmp_path / "a.wav", "--force", "--sample-rate", 8000, *words
        )
        assert result.exit_code == 0, result.stderr
    result = run("render", tmp_path / "song.mid", "-o", tmp_path / "b.wav", "--room", "cave")
    assert result.exit_code == 2 and 'no room "cave"' in result.stderr and not (tmp_path / "b.wav").exists()


# the command


def test_a_room_is_learnt_shown_and_listed_by_command(run, tmp_path):
    clapped(find_room("club"), 44_100).save(tmp_path / "clap.wav")
    learnt = run("room", "learn", tmp_path / "clap.wav", "--name", "cellar", "--rooms", tmp_path / "rooms")
    assert learnt.exit_code == 0, learnt.stderr
    path = tmp_path / "rooms" / "cellar.toml"
    assert path.stat().st_size < 2048 and tomllib.loads(path.read_text())["about"]["origin"] == "learnt from clap.wav"
    shown = run("room", "show", "cellar", "--rooms", tmp_path / "rooms", "--json")
    octaves = {row["hz"]: row for row in json.loads(shown.stdout)["octaves"]}
    assert octaves[1000]["t60_seconds"] == pytest.approx(0.7, rel=0.1) and len(octaves) == len(BAND_HZ)
    assert "cellar" in run("room", "list", "--rooms", tmp_path / "rooms").stdout
    again = run("room", "learn", tmp_path / "clap.wav", "--name", "cellar", "--rooms", tmp_path / "rooms")
    assert again.exit_code == 2 and "overwrite it with --force" in again.stderr
    assert run("room", "learn", tmp_path / "clap.wav", "--name", "none").exit_code == 2


def test_the_decay_of_a_room_is_drawn(run, tmp_path):
    pytest.importorskip("matplotlib")
    drawn = run("room", "show", "studio", "-o", tmp_path / "studio.png")
    assert drawn.exit_code == 0 and (tmp_path / "studio.png").read_bytes()[:4] == b"\x89PNG"
    assert "1000" in drawn.stdout and "0.4" in drawn.stdout


# rooms by a sound that is known


def known_music(seconds, rate, seed=0):
    """Struck strings, one after the other: a sound with much between its partials that music leaves out."""
    rng, music, time = np.random.default_rng(seed), np.zeros(int(seconds * rate)), np.arange(rate) / rate
    for at in np.arange(0, seconds - 1, 0.18):
        hz = 440 * 2 ** ((rng.integers(40, 88) - 69) / 12)
        note = sum(
            np.sin(2 * np.pi * hz * k * time + 6 * rng.random()) / k for k in range(1, 12) if hz * k < 0.45 * rate
        )
        note = note * np.exp(-6 * time) + 0.3 * rng.standard_normal(rate) * np.exp(-60 * time)
        begin = int(at * rate)
        music[begin : begin + rate] += note[: len(music) - begin]
    return music[None].astype(np.float32)


def played_in(room, dry, rate, level=0.4, noise_db=-40.0):
    """Music in a room, later by half a second, at another level, and with noise."""
    both = np.repeat(np.pad(dry, ((0, 0), (0, 2 * rate))), 2, axis=0)
    heard = np.pad(both + level * Room(rate, room).process(both), ((0, 0), (rate // 2, 0)))
    heard += np.random.default_rng(5).standard_normal(heard.shape) * heard.std() * 10 ** (noise_db / 20)
    return Audio(0.1 * heard, rate)


@pytest.mark.parametrize("t60", [0.3, 1.2])
def test_music_that_is_known_measures_the_room_that_it_is_played_into(t60):
    room, dry = DrawnRoom(t60, seed=1), Audio(known_music(12, 8000, seed=1), 8000)
    found = room_of_known(played_in(room, dry.samples, 8000), dry)
    true = [o.t60_seconds for o in measure_octaves(room.response(8000).sum(axis=1), 8000)]
    np.testing.assert_allclose([o.t60_seconds for o in found.octaves[1:6]], true[1:6], rtol=0.05)
    assert found.level_db == pytest.approx(20 * np.log10(0.4), abs=1)
    drawn = measure_octaves(found.room.response(8000).reshape(4, -1), 8000)
    assert np.exp(np.median(np.abs(np.log([drawn[i].t60_seconds / true[i] for i in range(2, 6)])))) < 1.05
    assert found.room.width > 0.95 and "4000" in found.remarks[0]


def test_moments_in_which_a_limiter_was_at_work_do_not_lengthen_a_room():
    room, dry = DrawnRoom(0.3, seed=1), Audio(known_music(12, 8000, seed=1), 8000)
    heard = played_in(room, dry.samples, 8000).samples.copy()
    for begin in (20_000, 61_000):
        heard[:, begin : begin + 2000] *= np.float32(0.6)
    found = room_of_known(Audio(heard, 8000), dry)
    true = [o.t60_seconds for o in measure_octaves(room.response(8000).sum(axis=1), 8000)]
    np.testing.assert_allclose([o.t60_seconds for o in found.octaves[3:6]], true[3:6], rtol=0.08)


def test_what_was_sent_to_the_room_tells_its_gain():
    room, dry = DrawnRoom(0.6), known_music(12, 8000)
    found = room_of_known(played_in(room, dry, 8000, 0.1), Audio(dry, 8000), sent=Audio(0.1 * dry, 8000))
    assert found.room.gain_db == pytest.approx(0, abs=1)
    assert found.level_db == pytest.approx(-20, abs=1)
    with pytest.raises(MiaoError, match="nothing of the music is sent"):
        room_of_known(played_in(room, dry, 8000), Audio(dry, 8000), sent=Audio(0 * dry, 8000))


def test_sounds_that_do_not_belong_together_measure_no_room():
    heard = played_in(SMALL, known_music(6, 8000, seed=1), 8000)
    with pytest.raises(
        MiaoError, match=r"does not belong to the dry sound; where they fit best they are alike by 0\.0"
    ):
        room_of_known(heard, Audio(known_music(6, 8000, seed=2), 8000))
    with pytest.raises(MiaoError, match="silent"):
        room_of_known(heard, Audio(np.zeros((1, 8000)), 8000))
    lag, share = alike(heard, Audio(known_music(6, 8000, seed=1), 8000))
    assert lag == pytest.approx(0.5, abs=1e-3) and share > 0.4
    with pytest.raises(MiaoError, match=r"dry: what comes after the sound|no decay can be followed"):
        room_of_known(Audio(known_music(6, 8000), 8000), Audio(known_music(6, 8000), 8000))


def test_a_rendering_of_our_own_tells_its_room_exactly(run, tmp_path):
    rng = np.random.default_rng(0)
    events: list[tuple[int, bytes]] = []
    for low, high in rng.integers(45, 90, (60, 2)).tolist():
        events += [(0, on(low)), (0, on(high)), (150, off(low)), (10, off(high))]
    (tmp_path / "song.mid").write_bytes(smf(track(*events)))
    synthesizer = Synthesizer.from_pretrained("gm", [0])
    heard = synthesizer.render(tmp_path / "song.mid", room="chamber", sample_rate=8000)
    Audio(0.3 * np.pad(heard.samples, ((0, 0), (3000, 0))), 8000).save(tmp_path / "song.wav")
    learnt = run("room", "learn", tmp_path / "song.wav", "--midi", tmp_path / "song.mid", "-o", tmp_path / "own.toml")
    assert learnt.exit_code == 0, learnt.stderr
    assert "our own rendering of these notes" in learnt.stderr
    room, true = (find_room(name).response(8000).reshape(4, -1) for name in (tmp_path / "own.toml", "chamber"))
    times = [[o.t60_seconds for o in measure_octaves(response, 8000)[2:6]] for response in (room, true)]
    assert np.exp(np.median(np.abs(np.log(np.divide(*times))))) < 1.05
    assert find_room(tmp_path / "own.toml").gain_db == pytest.approx(find_room("chamber").gain_db, abs=1.5)
    (tmp_path / "other.mid").write_bytes(smf(track((0, on(60)), (960, off(60)))))
    assert _of_own_rendering(tmp_path / "song.wav", tmp_path / "other.mid") is None


def test_a_recording_is_of_one_thing_only(run, tmp_path):
    clapped(find_room("club"), 8000).save(tmp_path / "a.wav")
    both = run("room", "learn", tmp_path / "a.wav", "--dry", tmp_path / "a.wav", "--sweep", tmp_path / "a.wav")
    assert both.exit_code == 2 and "one of --sweep, --dry and --midi" in both.stderr
