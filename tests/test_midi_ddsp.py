"""MIDI-DDSP: its synthesizer against NumPy, what is measured of notes, what it learns from one window."""

import numpy as np
import pytest
import torch
from conftest import rounding

from miao.bank import tokens as tk
from miao.bank.frames import WINDOW_SECONDS, window_mel
from miao.bank.voices import drum_voice, pitch_hz
from miao.datasets.pairs import PAIR_NOTE, Pair
from miao.peers.ddsp import HOP, HOP_SECONDS, filtered_noise, oscillate, phases, spectral_loss
from miao.peers.expression import CONTROLS, expression_controls, measured_cents
from miao.peers.midi_ddsp import DRUM_HZ, MidiDdsp, MidiDdspConfig, MidiDdspObjective
from miao.peers.midi_ddsp_playing import render_midi_ddsp
from miao.sound.spectrum import SAMPLE_RATE

torch.set_num_threads(1)

SMALL = MidiDdspConfig(width=48, n_blocks=2, voice_width=8, expression_width=8, n_harmonics=16, n_bands=17,
                       crop_hops=24, tail_seconds=0.5, fft_sizes=(2048, 1024, 512))  # fmt: skip


def some_notes(pitches, starts, seconds=0.6, voice=40, velocity=90):
    notes = np.zeros(len(pitches), PAIR_NOTE)
    notes["pitch"], notes["start"], notes["voice"], notes["velocity"] = pitches, starts, voice, velocity
    notes["damp"] = notes["end"] = notes["start"] + seconds
    return notes


def made_up_tokens(seconds, level=40, slope=0.0, wobble=0.0, partials=3, noise=0):
    """Partials of one level, ``slope`` levels a second; pitch that wobbles 6 times a second by ``wobble`` cents."""
    n_chunks = 1 + int(np.ceil(max(seconds - tk.ATTACK_SECONDS, 0) / 0.64))
    held = np.zeros((n_chunks, tk.CHUNK_STEPS, tk.N_CELLS), np.uint8)
    times = tk.held_times(len(held)).reshape(held.shape[:2])
    held[..., :partials] = np.clip(np.rint(level + slope * times), 0, 63)[..., None]
    held[..., tk.N_PARTIALS : tk.PITCH_CELL] = noise
    held[..., tk.PITCH_CELL] = np.rint(tk.cents_to_level(wobble * np.sin(2 * np.pi * 6 * times)))
    release = np.zeros((1, tk.CHUNK_STEPS, tk.N_CELLS), np.uint8)
    release[..., tk.PITCH_CELL] = tk.CENTS_CENTRE
    return tk.NoteTokens(held, release, seconds)


def made_up_pair():
    """A window of notes of four harmonics that fade in and out, and a chord."""
    notes = some_notes([57, 64, 69, 60, 64, 67], [0.1, 0.9, 1.7, 2.9, 2.9, 2.9], 0.7)
    times = np.arange(round(WINDOW_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros(len(times))
    for note in notes:
        age = times - note["start"]
        loudness = np.interp(age, [0, 0.02, 0.7, 0.75], [0, 0.1, 0.07, 0], left=0, right=0)
        sound += loudness * sum(np.sin(2 * np.pi * k * pitch_hz(int(note["pitch"])) * age) / k**2 for k in range(1, 5))
    sound = sound.astype(np.float32)
    return Pair("made/up@0", notes, window_mel(sound), {n: made_up_tokens(0.7) for n in range(len(notes))}, sound)


def strongest_hz(sound, low=30.0, high=20_000.0):
    """The frequency of the strongest partial, interpolated, below a cent of error for a steady tone."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8 * len(sound)))
    hz = np.arange(len(spectrum)) * SAMPLE_RATE / (8 * len(sound))
    spectrum[(hz < low) | (hz > high)] = 0
    return hz[spectrum.argmax()]


def cents(hz, pitch):
    return 1200 * np.log2(hz / pitch_hz(pitch))


# the synthesizer


@pytest.mark.parametrize("hz", [np.full(12, 440.0), np.geomspace(200.0, 900.0, 12)], ids=["steady", "gliding"])
def test_harmonics_are_sines_of_numpy(hz):
    rng = np.random.default_rng(0)
    amplitudes = rng.uniform(0, 0.1, (12, 20)).astype(np.float32)
    phase = phases(torch.from_numpy(hz)[None])[0]
    left, right = torch.from_numpy(amplitudes[:-1]), torch.from_numpy(amplitudes[1:])
    played = oscillate(phase, left, right, torch.full((11,), 20))
    moments = np.arange(11 * HOP) / HOP
    turns = np.concatenate([[0], np.cumsum(np.interp(moments, np.arange(12), hz))[:-1]]) / SAMPLE_RATE
    expected = sum(np.interp(moments, np.arange(12), amplitudes[:, k - 1]) * np.sin(2 * np.pi * k * turns)
                   for k in range(1, 21))  # fmt: skip
    np.testing.assert_allclose(
        played.flatten().numpy(), expected, rtol=0, atol=rounding(20 * 0.1, 160)
    )  # 20 harmonics; angles up to 20 turns


def test_hops_are_in_the_order_they_were_given_whatever_their_number_of_harmonics():
    torch.manual_seed(0)
    phase, left, right = torch.rand(50, HOP), torch.rand(50, 16), torch.rand(50, 16)
    n = torch.randint(1, 17, (50,))
    left, right = (x * (torch.arange(1, 17) <= n[:, None]) for x in (left, right))
    alone = torch.cat([oscillate(*(x[i : i + 1] for x in (phase, left, right, n))) for i in range(50)])
    torch.testing.assert_close(
        oscillate(phase, left, right, n), alone, atol=rounding(16), rtol=0
    )  # sums of 16 harmonics up to 1


def test_a_phase_stays_in_tune_for_a_minute():
    phase = phases(torch.full((1, 6001), 4186.0))[0].flatten()
    n = len(phase) - 1
    off = (float(phase[-1]) - 4186.0 * n / SAMPLE_RATE) % 1
    assert min(off, 1 - off) < 1e-4


def test_noise_of_flat_magnitudes_is_the_noise_itself():
    noise = torch.rand(2, 41, HOP) * 2 - 1
    shaped = filtered_noise(noise, torch.ones(2, 40, 33))
    torch.testing.assert_close(shaped, noise[:, 1:-1], atol=rounding(1, 160), rtol=0)  # two FFTs of some 160 points


def test_noise_of_one_band_has_only_that_band():
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.random((1, 402, HOP), np.float32) * 2 - 1)
    magnitudes = torch.zeros(1, 401, 33)
    magnitudes[..., 20] = 1
    power = np.abs(np.fft.rfft(filtered_noise(noise, magnitudes).flatten().numpy())) ** 2
    hz = np.linspace(0, SAMPLE_RATE / 2, len(power))
    top = np.log1p(SAMPLE_RATE / 2 / 700)
    inside = (hz > 700 * np.expm1(top * 19 / 32) - 60) & (hz < 700 * np.expm1(top * 21 / 32) + 60)
    assert power[inside].sum() > 0.995 * power.sum()
    assert power[inside].mean() > 1000 * power[~inside].mean()


def test_the_spectral_loss_by_hand():
    tone = 0.5 * torch.sin(2 * torch.pi * 0.1 * torch.arange(4096))[None]
    assert float(spectral_loss(tone, tone, (512, 256))) == 0
    window = torch.hann_window(512)
    by_hand = []
    for start in range(0, 4096 - 512 + 1, 128):
        ours, theirs = (torch.fft.rfft(x[0, start : start + 512] * window).abs() for x in (tone, 0.5 * tone))
        floor = 10**-4.5 * 128
        log_ours, log_theirs = torch.log(ours + floor), torch.log(theirs + floor)
        by_hand.append((ours - theirs).abs().mean() + (log_ours - log_theirs).abs().mean())
    assert float(spectral_loss(tone, 0.5 * tone, (512,))) == pytest.approx(float(torch.stack(by_hand).mean()), rel=1e-3)


# what is measured


def control(name, tokens):
    return expression_controls(tokens)[CONTROLS.index(name)]


def test_controls_say_how_a_note_is_played():
    plain = made_up_tokens(1.0)
    assert control("volume", made_up_tokens(1.0, level=50)) > 0.1 + control("volume", plain)
    assert control("fluctuation", plain) < 0.01 < 0.1 < control("fluctuation", made_up_tokens(1.0, slope=-15.0))
    assert control("peak", made_up_tokens(1.0, slope=15.0)) > 0.9
    assert control("peak", made_up_tokens(1.0, slope=-15.0)) < 0.1
    assert control("brightness", made_up_tokens(1.0, partials=10)) > 0.2 + control("brightness", plain)
    assert control("attack_noise", made_up_tokens(1.0, noise=30)) > 0.1 + control("attack_noise", plain)


def test_controls_by_hand():
    tokens = made_up_tokens(1.0, level=40)  # three partials of -46.25 dB each: together 4.77 dB more
    assert control("volume", tokens) == pytest.approx(1 - (46.25 - 10 * np.log10(3)) / 80, abs=1e-3)
    assert control("brightness", tokens) == pytest.approx(2 / 12, abs=0.01)
    assert control("attack_noise", tokens) == 0


def test_vibrato_is_a_wave_of_the_pitch_of_3_to_9_hz():
    assert control("vibrato", made_up_tokens(1.5, wobble=10)) == pytest.approx(0.5, abs=0.05)
    assert control("vibrato", made_up_tokens(1.5)) < 0.02
    slow = made_up_tokens(1.5)
    slow.held[..., tk.PITCH_CELL] = np.linspace(20, 44, slow.held[..., 0].size).reshape(slow.held.shape[:2])
    assert control("vibrato", slow) == 0


def test_f0_is_measured_where_the_note_is_heard():
    tokens = made_up_tokens(1.0, wobble=20)
    ages = np.arange(0, 1.5, HOP_SECONDS)
    measured, weight = measured_cents(tokens, ages)
    held = ages < 1.0
    assert weight[held].all() and not weight[~held].any()
    np.testing.assert_allclose(measured[held], 20 * np.sin(2 * np.pi * 6 * ages[held]), atol=3)


# learning and playing


def test_a_batch_is_the_same_for_a_seed_and_another_for_another():
    pair = made_up_pair()
    torch.manual_seed(0)
    objective = MidiDdspObjective(SMALL, "float32")
    losses = [float(objective(objective.collate([pair] * 3, np.random.default_rng(seed)), 0)["loss/total"].detach())
              for seed in (1, 1, 2)]  # fmt: skip
    assert losses[0] == losses[1] != losses[2]


def test_a_crop_holds_its_notes_where_they_are():
    pair = made_up_pair()
    objective = MidiDdspObjective(SMALL, "float32")
    batch = objective.collate([pair] * 8, np.random.default_rng(0))
    segments = batch.segments
    windows = np.lib.stride_tricks.sliding_window_view(pair.sound, batch.sound.shape[1])
    for row, note, age, offset in zip(segments.track, segments.note, segments.age, segments.offset, strict=True):
        start = round(pair.notes["start"][note] * SAMPLE_RATE)
        crop = batch.sound[row].numpy()
        same = np.flatnonzero((windows[:, :3] == crop[:3]).all(axis=1))
        crops = [s for s in same if np.array_equal(windows[s], crop)]
        assert crops == [start + round(float(age) / HOP_SECONDS) * HOP - int(offset)]
        assert -HOP < int(offset) < batch.sound.shape[1]


@pytest.fixture(scope="module")
def learnt():
    """An objective after some steps on one window, and its losses."""
    pair, rng = made_up_pair(), np.random.default_rng(0)
    torch.manual_seed(0)
    objective = MidiDdspObjective(SMALL, "bf16")
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        out = objective(objective.collate([pair] * 4, rng), step)
        optimizer.zero_grad()
        out["loss/total"].backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        losses.append({name: float(value.detach()) for name, value in out.items()})
    return objective, losses


@pytest.mark.slow
def test_one_window_is_learnt(learnt):
    _, losses = learnt
    first, last = ({k: np.mean([x[k] for x in some]) for k in losses[0]} for some in (losses[:3], losses[-5:]))
    assert last["loss/spectral"] < 0.4 * first["loss/spectral"]
    assert last["loss/expression"] < 0.4 * first["loss/expression"]


@pytest.mark.slow
def test_notes_are_in_tune_and_where_they_belong(learnt):
    notes = some_notes([57, 69, 64], [0.1, 1.0, 2.0])
    sound = render_midi_ddsp(learnt[0].model, notes, 3.0)
    assert sound.shape == (3 * SAMPLE_RATE,) and sound.dtype == np.float32
    for note in notes:
        part = sound[round((note["start"] + 0.1) * SAMPLE_RATE) : round((note["start"] + 0.5) * SAMPLE_RATE)]
        assert abs(cents(strongest_hz(part), int(note["pitch"]))) < 20
        assert 0.02 < np.abs(part).max() < 0.4
    assert not sound[: round(0.1 * SAMPLE_RATE)].any()


@pytest.mark.slow
def test_a_chord_has_its_pitches(learnt):
    pitches = [60, 64, 67]
    sound = render_midi_ddsp(learnt[0].model, some_notes(pitches, [0.0] * 3), 1.0)[2000:24000]
    for pitch in pitches:
        hz = float(pitch_hz(pitch))
        assert abs(cents(strongest_hz(sound, hz * 0.95, hz * 1.05), pitch)) < 20


@pytest.mark.slow
def test_rendering_is_the_same_each_time_and_sounds_add_up(learnt):
    model, notes = learnt[0].model, some_notes([60, 67], [0.0, 0.5])
    sound = render_midi_ddsp(model, notes, 2.0)
    np.testing.assert_array_equal(sound, render_midi_ddsp(model, notes[::-1], 2.0))
    assert np.abs(sound[: SAMPLE_RATE // 2]).max() > 0.01


@pytest.mark.slow
def test_long_tracks_are_played_to_their_end(learnt):
    notes = some_notes(np.full(600, 69), np.arange(600) * 0.04, 0.05)
    sound = render_midi_ddsp(learnt[0].model, notes, 24.0)
    levels = np.sqrt((sound[: 24 * SAMPLE_RATE].reshape(24, -1) ** 2).mean(axis=1))
    assert levels[1:23].min() > 0.3 * levels[1:23].max()


def test_drums_share_a_low_comb_whatever_their_key():
    torch.manual_seed(0)
    model = MidiDdsp(SMALL)
    drums = some_notes([38, 62, 87], [0.0, 0.0, 0.0], 0.05)
    drums["voice"] = [drum_voice(int(key)) for key in drums["pitch"]]
    sound = render_midi_ddsp(model, drums, 1.0)
    assert np.isfinite(sound).all() and np.abs(sound).max() > 1e-4
    with torch.no_grad():
        for row in model.synthesis.head.weight[-SMALL.n_bands :]:
            row.zero_()
        model.synthesis.head.bias[-SMALL.n_bands :] = -20.0  # no noise
    hz = strongest_hz(render_midi_ddsp(model, drums, 1.0)[4000:40_000]) / DRUM_HZ
    assert hz == pytest.approx(round(hz), abs=0.02) and hz <= SMALL.n_harmonics


def test_what_nobody_hears_is_silence():
    model = MidiDdsp(SMALL)
    with torch.no_grad():
        model.synthesis.head.weight.zero_()
        model.synthesis.head.bias[1] = model.synthesis.head.bias[-SMALL.n_bands :] = -20.0
    assert not render_midi_ddsp(model, some_notes([60], [0.0]), 1.0).any()


def test_a_window_without_sound_is_learnt_from_too():
    silent = Pair("made/up@1", some_notes([60], [-9.0]), np.zeros(0), {}, np.zeros(SAMPLE_RATE, np.float32))
    objective = MidiDdspObjective(SMALL, "float32")
    losses = objective(objective.collate([silent], np.random.default_rng(0)), 0)
    assert float(losses["loss/spectral"].detach()) == pytest.approx(0, abs=1e-6)
    losses["loss/total"].backward()


def test_no_notes_are_silence():
    sound = render_midi_ddsp(MidiDdsp(SMALL), np.zeros(0, PAIR_NOTE), 0.5)
    assert len(sound) == SAMPLE_RATE // 2 and not sound.any()
