"""MI-DDPM: the diffusion's equations against Bayes' rule and dice, notes to events and back, what a tiny one learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import rounding

from miao.bank.voices import drum_voice, pitch_hz
from miao.datasets.pairs import PAIR_NOTE, Pair, window_mel
from miao.errors import DataError
from miao.peers import mi_ddpm
from miao.peers.inputs import DRUM_KIT, FLOOR_DB, N_BANDS, sound_mel
from miao.peers.mi_ddpm import MiDdpm, MiDdpmConfig, MiDdpmObjective, schedule, unscaled
from miao.peers.mi_ddpm_sampling import doubled, guided_noise, posterior, sample_mel
from miao.peers.note_events import (
    ACTION,
    FRAME,
    INSTRUMENT,
    KEY,
    N_VELOCITIES,
    OFF,
    SEGMENT_FRAMES,
    SEGMENT_SECONDS,
    TIE,
    note_events,
)
from miao.sound.spectrum import SAMPLE_RATE

torch.set_num_threads(1)  # sums of several threads are not the same each time

TINY = MiDdpmConfig(width=64, n_heads=2, hidden=64, note_layers=1, context_layers=1, decoder_layers=2)
WINDOW_SAMPLES = 225_792
# what sums of a thousand numbers may lose in double precision, through the division by α at the noisy end, in dB
ROUNDING_DB = 1000 * np.finfo(float).eps / math.exp(-10) * 50


def played(*notes):
    """(start, end, pitch, velocity, voice) as PAIR_NOTE."""
    rows = np.zeros(len(notes), PAIR_NOTE)
    for row, (start, end, pitch, velocity, voice) in zip(rows, notes, strict=True):
        row["start"], row["end"], row["damp"] = start, end, end
        row["pitch"], row["velocity"], row["voice"] = pitch, velocity, voice
    return rows


def sines_pair(notes):
    """A pair whose sound is a sine a note, 20 dB below full scale, with ends that do not click."""
    sound, at = np.zeros(WINDOW_SAMPLES), np.arange(WINDOW_SAMPLES) / SAMPLE_RATE
    for n in notes:
        envelope = np.clip(np.minimum(at - n["start"], n["damp"] - at) / 0.01, 0, 1)
        sound += 0.1 * envelope * np.sin(2 * np.pi * pitch_hz(int(n["pitch"])) * at)
    return Pair("sines", notes, window_mel(sound), {}, sound.astype(np.float32))


# diffusion


def test_the_noise_grows_from_none_to_all():
    alpha, sigma = schedule(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert (alpha.diff() < 0).all() and (sigma.diff() > 0).all()
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(101, dtype=torch.float64))
    log_snr = 2 * torch.log(alpha / sigma)
    assert log_snr[[0, 100]].tolist() == pytest.approx([20, -20])
    assert alpha[50] == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("step", [1, 2, 7, 20, 39, 40])
def test_a_step_back_is_bayes_rule_for_gaussians(step):
    x_0, x_t, s, t = 0.3, -1.1, (step - 1) / 40, step / 40
    (a_s, b_s), (a_t, b_t) = ([float(x) for x in schedule(torch.tensor(u, dtype=torch.float64))] for u in (s, t))
    # prior q(x_s | x_0), likelihood q(x_t | x_s): precisions add up, means are weighted by them
    ratio = a_t / a_s
    likelihood = ratio**2 / (b_t**2 - ratio**2 * b_s**2)
    precision = 1 / b_s**2 + likelihood
    by_hand = (a_s * x_0 / b_s**2 + likelihood * x_t / ratio) / precision
    mean, deviation = posterior(torch.tensor([x_t]).double(), torch.tensor([x_0]).double(), t, s)
    assert mean.item() == pytest.approx(by_hand, rel=1e-6)
    assert deviation == pytest.approx(precision**-0.5, rel=1e-6)
    if step == 1:
        assert mean.item() == pytest.approx(x_0, abs=1e-5) and deviation < 1e-4


def test_a_step_back_undoes_steps_of_noise_in_distribution():
    rng = np.random.default_rng(0)
    s, t, x_0 = 0.4, 0.45, 0.5
    (a_s, b_s), (a_t, b_t) = ([float(x) for x in schedule(torch.tensor(u, dtype=torch.float64))] for u in (s, t))
    x_s = a_s * x_0 + b_s * rng.standard_normal(400_000)
    ratio = a_t / a_s
    x_t = ratio * x_s + math.sqrt(b_t**2 - (ratio * b_s) ** 2) * rng.standard_normal(400_000)
    assert x_t.mean() == pytest.approx(a_t * x_0, abs=0.01) and x_t.std() == pytest.approx(b_t, abs=0.01)
    near = np.abs(x_t - 0.8) < 0.01
    mean, deviation = posterior(torch.tensor([0.8]), torch.tensor([x_0]), t, s)
    assert near.sum() > 2000
    assert x_s[near].mean() == pytest.approx(mean.item(), abs=0.02)
    assert x_s[near].std() == pytest.approx(deviation, rel=0.05)


class Oracle(MiDdpm):
    """Knows the clean segment, and so the v of any noisy one."""

    def forward(self, noisy, time, memory):
        alpha, sigma = (x[:, None, None] for x in schedule(time))
        return alpha * (noisy - alpha * self.clean) / sigma - sigma * self.clean


@pytest.mark.usefixtures("in_double")
def test_the_exact_noise_gives_the_clean_segment_back():
    torch.manual_seed(0)
    model = Oracle(TINY)
    model.clean = torch.rand(1, SEGMENT_FRAMES, N_BANDS) * 2 - 1
    noise = torch.randn(1, SEGMENT_FRAMES, N_BANDS)
    for time in (0.05, 0.5, 0.95):
        alpha, sigma = schedule(torch.tensor(time))
        predicted = model.noise(alpha * model.clean + sigma * noise, torch.tensor([time]), None)
        torch.testing.assert_close(predicted, noise, atol=ROUNDING_DB / 50, rtol=0)
    notes = played((0.1, 2.0, 60, 90, 0))
    for guidance in (1.0, 3.0):
        (mel,) = sample_mel(model, [notes], SEGMENT_SECONDS, steps=8, guidance=guidance)
        np.testing.assert_allclose(mel, (model.clean[0].numpy() + 1) / 2 * 100 + FLOOR_DB, rtol=0, atol=ROUNDING_DB)


def batch_of_two(config=TINY):
    pairs = [sines_pair(played((0.2, 2.0, 60, 90, 0), (2.7, 4.5, 67, 60, 0))),
             sines_pair(played((1.0, 3.0, 72, 40, 48)))]  # fmt: skip
    return MiDdpmObjective(config, "fp32").collate(pairs, np.random.default_rng(2))


def shaken(config=TINY):
    """A net whose last layer is not zero, as a fresh one's is."""
    torch.manual_seed(1)
    model = MiDdpm(config)
    torch.nn.init.normal_(model.frames_out.weight, std=0.05)
    return model


@torch.no_grad()
@pytest.mark.usefixtures("in_double")
def test_guidance_0_reads_nothing_and_guidance_1_is_the_plain_prediction():
    model, batch = shaken(), batch_of_two()
    there = replace(batch.conditions, is_kept=torch.ones(2, dtype=torch.bool))
    plain = model.noise(batch.noise, batch.time, model.memory(there))
    nothing = model.noise(batch.noise, batch.time,
                          model.memory(replace(there, is_kept=torch.zeros(2, dtype=torch.bool))))  # fmt: skip
    both = model.memory(doubled(there))
    at = {w: guided_noise(model, batch.noise, batch.time, both, w) for w in (0.0, 1.0, 3.0)}
    with_them, without = model.noise(batch.noise.repeat(2, 1, 1), batch.time.repeat(2), both).chunk(2)
    assert torch.equal(at[0.0], without) and torch.equal(at[1.0], with_them)
    torch.testing.assert_close(at[0.0], nothing, atol=ROUNDING_DB, rtol=0)  # another batch size rounds differently
    torch.testing.assert_close(at[1.0], plain, atol=ROUNDING_DB, rtol=0)
    torch.testing.assert_close(at[3.0], nothing + 3 * (plain - nothing), atol=ROUNDING_DB, rtol=0)
    assert (plain - nothing).abs().max() > 0.01


@torch.no_grad()
def test_dropped_conditions_are_not_read_and_kept_ones_are():
    model, batch = shaken(), batch_of_two()
    c = replace(batch.conditions, has_context=torch.ones(2, dtype=torch.bool))
    moved = replace(c, context=c.context + 0.5)
    other_key = c.events.clone()
    other_key[:, :, KEY] += 1

    def predicted(conditions, is_kept, has_context):
        flags = {"is_kept": torch.full((2,), is_kept), "has_context": torch.full((2,), has_context)}
        return model.noise(batch.noise, batch.time, model.memory(replace(conditions, **flags)))

    for changed in (moved, replace(c, events=other_key)):
        assert (predicted(changed, False, True) - predicted(c, False, True)).abs().max() == 0
        assert (predicted(changed, True, True) - predicted(c, True, True)).abs().max() > 1e-3
    assert (predicted(moved, True, False) - predicted(c, True, False)).abs().max() == 0


# notes


def notes_back(events):
    """Events as (start frame, end frame, instrument, key, velocity action); None where the segment does not say."""
    sounding, notes = {}, []
    for event in events.tolist():
        what = event[INSTRUMENT], event[KEY]
        if event[ACTION] == OFF or what in sounding:
            start, action = sounding.pop(what)
            notes.append((start, event[FRAME], *what, action))
        if event[ACTION] == TIE:
            sounding[what] = None, None
        elif event[ACTION] != OFF and event[INSTRUMENT] == DRUM_KIT:
            notes.append((event[FRAME], None, *what, event[ACTION]))
        elif event[ACTION] != OFF:
            sounding[what] = event[FRAME], event[ACTION]
    return notes + [(start, None, *what, action) for what, (start, action) in sounding.items()]


def test_events_decode_to_the_notes():
    rng = np.random.default_rng(5)
    truth, rows = set(), []
    for key in rng.permutation(np.arange(30, 100))[:24]:
        for first in (2.56, 3.56):  # two a key, the second after the first
            start, end = first + rng.uniform(0, 0.3), first + rng.uniform(0.35, 0.95)
            velocity, program = int(rng.integers(1, 128)), int(rng.integers(128))
            rows.append((start, end, int(key), velocity, program))
    for start, end, key, velocity, program in rows:
        truth.add((program, key, math.ceil(velocity * 16 / 127), start, end))
    found = notes_back(note_events(played(*rows), SEGMENT_SECONDS, 512))
    assert len(found) == len(truth) == 48
    by_what = sorted((i, k, a, 2.56 + b / 100, 2.56 + e / 100) for b, e, i, k, a in found)
    for (i, k, a, start, end), (i2, k2, a2, start2, end2) in zip(by_what, sorted(truth), strict=True):
        assert (i, k, a) == (i2, k2, a2)
        assert abs(start - start2) < 0.0051 and abs(end - end2) < 0.0051


def test_notes_across_the_ends_of_a_segment_are_tied_and_left_open():
    notes = played((2.0, 3.0, 60, 100, 5), (5.0, 6.0, 64, 100, 5), (1.0, 9.0, 67, 100, 5), (0.0, 2.5, 70, 100, 5),
                   (5.2, 7.0, 71, 1, 5))  # fmt: skip
    events = note_events(notes, SEGMENT_SECONDS, 64)
    assert events.tolist() == [[0, TIE, 5, 60], [0, TIE, 5, 67], [44, OFF, 5, 60], [244, 13, 5, 64]]
    assert sorted(notes_back(events), key=str) == [
        (244, None, 5, 64, 13), (None, 44, 5, 60, None), (None, None, 5, 67, None)]  # fmt: skip


def test_a_drum_is_struck_and_never_ends():
    hits = played((0.5, 0.6, 38, 127, drum_voice(38)), (0.5, np.inf, 36, 1, drum_voice(36)), (-0.05, 0.05, 42, 99, 143))
    assert note_events(hits, 0.0, 64).tolist() == [[50, 1, DRUM_KIT, 128 + 36], [50, 16, DRUM_KIT, 128 + 38]]


def test_of_two_notes_of_a_key_the_later_ends_the_earlier():
    events = note_events(played((0.0, 2.0, 60, 127, 0), (1.0, np.inf, 60, 127, 0)), 0.0, 64)
    assert events.tolist() == [[0, 16, 0, 60], [100, OFF, 0, 60], [100, 16, 0, 60]]


def test_too_many_notes_leave_the_last_ones_out():
    rows = [(0.001 * n, 0.001 * n + 0.02, 24 + n % 80, 64, 0) for n in range(2000)]
    events = note_events(played(*rows), 0.0, 100)
    assert len(events) == 100 and events[-1, FRAME] < 20
    assert (events == note_events(played(*rows), 0.0, 10_000)[:100]).all()
    mel = sample_mel(MiDdpm(TINY), [played(*rows)], 1.0, steps=1)[0]
    assert mel.shape == (100, N_BANDS) and np.isfinite(mel).all()


def test_all_velocities_have_a_bin():
    velocities = [(0.0, 1.0, v, v, 0) for v in range(128)]
    events = note_events(played(*velocities), 0.0, 512)
    actions = events[events[:, FRAME] == 0, ACTION]
    assert actions.min() == 1 and actions.max() == N_VELOCITIES and (np.diff(actions) >= 0).all()


# pairs


def test_a_pair_is_its_second_half_after_its_first_or_its_first_after_nothing():
    pair = sines_pair(played((0.2, 2.0, 60, 90, 0), (2.0, 4.0, 67, 60, 0)))
    scaled = np.clip(sound_mel(pair.sound) / 50 + 1, -1, 1)
    for drop, half, actions in ((0.0, 1, [TIE, OFF]), (1.0, 0, [12, OFF, 8])):
        objective = MiDdpmObjective(replace(TINY, drop_context=drop), "fp32")
        batch = objective.collate([pair], np.random.default_rng(0))
        assert batch.conditions.has_context.tolist() == [drop == 0]
        np.testing.assert_allclose(batch.target[0], scaled[half * 256 : (half + 1) * 256], atol=rounding())
        np.testing.assert_allclose(batch.conditions.context[0], scaled[:256], atol=rounding())
        assert batch.conditions.events[0, :, ACTION].tolist() == actions


def test_conditions_are_dropped_as_often_as_asked_and_times_cover_everything(monkeypatch):
    objective = MiDdpmObjective(replace(TINY, drop_conditions=0.25, drop_context=0.5), "fp32")
    pair = sines_pair(played((0.2, 2.0, 60, 90, 0)))
    mel = sound_mel(pair.sound)
    monkeypatch.setattr(mi_ddpm, "sound_mel", lambda sound: mel)  # once is enough
    batch = objective.collate([pair] * 200, np.random.default_rng(0))
    assert (~batch.conditions.is_kept).float().mean() == pytest.approx(0.25, abs=3 * np.sqrt(0.25 * 0.75 / 200))
    assert (~batch.conditions.has_context).float().mean() == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / 200))
    assert batch.time.min() < 0.03 and batch.time.max() > 0.97
    assert batch.noise.std() == pytest.approx(1, abs=5 / np.sqrt(2 * batch.noise.numel()))  # five standard errors


def test_pairs_without_sound_or_of_another_length_are_told():
    objective = MiDdpmObjective(TINY, "fp32")
    pair = sines_pair(played((0.2, 2.0, 60, 90, 0)))
    with pytest.raises(DataError, match="sines: holds no sound"):
        objective.collate([replace(pair, sound=None)], np.random.default_rng(0))
    with pytest.raises(DataError, match="100 frames of sound, expected 512"):
        objective.collate([replace(pair, sound=pair.sound[:44_100])], np.random.default_rng(0))


# learning and sampling


STEPS = 200


@pytest.fixture(scope="module")
def learnt():
    """A tiny net that has seen one pair over and over, the pair, and the losses on the way."""
    torch.manual_seed(0)
    objective = MiDdpmObjective(replace(TINY, drop_context=0.5), "fp32")
    pair = sines_pair(played((0.0, 2.3, 69, 100, 0), (2.6, 4.8, 81, 100, 0)))
    rng, mel = np.random.default_rng(0), sound_mel(pair.sound)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=4e-3)
    losses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mi_ddpm, "sound_mel", lambda sound: mel)  # once is enough
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = 4e-3 * min(1, step / 20, 2 * (1 - step / STEPS))
            loss = objective(objective.collate([pair] * 4, rng), step)["loss/total"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    return objective.model, pair, losses


@pytest.mark.slow
def test_one_pair_is_learnt(learnt):
    losses = learnt[2]
    assert np.mean(losses[-40:]) < 0.3 * np.mean(losses[:5])


@pytest.mark.slow
def test_the_played_pitch_is_the_strongest_band_of_what_is_sampled(learnt):
    model, pair, _ = learnt
    (mel,) = sample_mel(model, [pair.notes], 5.12, steps=20, guidance=1.0)
    truth = sound_mel(pair.sound)
    for frames in (slice(30, 200), slice(290, 450)):
        assert mel[frames].mean(axis=0).argmax() == truth[frames].mean(axis=0).argmax()
        assert np.abs(mel[frames] - truth[frames]).mean() < 6  # dB; untrained about 50


def test_sampling_is_the_same_again_and_another_seed_differs():
    model, notes = shaken(), [played((0.0, 2.0, 60, 90, 0))]
    first, again, other = (sample_mel(model, notes, 3.0, steps=3, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (300, N_BANDS)
    assert np.abs(first - other).mean() > 1


@pytest.mark.usefixtures("in_double")
def test_without_guidance_the_sample_is_that_of_guidance_1():
    model, notes = shaken(), [played((0.0, 2.0, 60, 90, 0))]
    plain, nearly = (sample_mel(model, notes, 2.0, steps=3, guidance=w)[0] for w in (1.0, 1 + 1e-15))
    np.testing.assert_allclose(plain, nearly, rtol=0, atol=ROUNDING_DB)


@pytest.mark.usefixtures("in_double")
def test_two_tracks_at_once_are_each_alone():
    model = shaken()
    tracks = [played((0.0, 2.0, 60, 90, 0), (2.0, 4.0, 64, 80, 0)), played((3.0, 3.1, 38, 90, drum_voice(38)))]
    together = sample_mel(model, tracks, 5.0, steps=3)
    for track, mel in zip(tracks, together, strict=True):
        np.testing.assert_allclose(mel, sample_mel(model, [track], 5.0, steps=3)[0], rtol=0, atol=ROUNDING_DB)
    assert (together[1][:SEGMENT_FRAMES] == FLOOR_DB).all() and (together[1][SEGMENT_FRAMES:] > FLOOR_DB).any()


def test_an_empty_track_is_silence():
    empty, tones = np.zeros(0, PAIR_NOTE), played((0.0, 1.0, 60, 90, 0))
    alone = sample_mel(shaken(), [empty], 4.0, steps=2)[0]
    beside = sample_mel(shaken(), [tones, empty], 4.0, steps=2)[1]
    assert alone.shape == (400, N_BANDS) and (alone == FLOOR_DB).all() and (beside == FLOOR_DB).all()
    assert sample_mel(shaken(), [], 4.0) == []


@pytest.mark.usefixtures("in_double")
def test_a_segment_is_made_after_what_was_made_before():
    model, notes = shaken(), played((0.0, 5.0, 60, 90, 0))
    heard = []
    inner = model.memory
    model.memory = lambda conditions: heard.append(conditions) or inner(conditions)
    (mel,) = sample_mel(model, [notes], 5.12, steps=2)
    assert [c.has_context.any().item() for c in heard] == [False, True]
    np.testing.assert_allclose(unscaled(heard[1].context[0].numpy()), mel[:SEGMENT_FRAMES], rtol=0, atol=ROUNDING_DB)
