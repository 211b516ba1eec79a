"""The peers' common ground, the inverter, Midi2Wave, and all of them as runs and systems, on made-up pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_toy_bank, rounding
from test_mi_ddpm import played, sines_pair
from typer.testing import CliRunner

from miao.bank.voices import drum_voice
from miao.cli.main import app
from miao.datasets.pairs import pair_notes, read_shard, write_shard
from miao.errors import CheckpointError, ConfigError, DataError
from miao.evaluation.systems import Piece, Sound, system
from miao.midi.score import read_score
from miao.peers import inverter as inv
from miao.peers.inputs import (
    DRUM_KIT,
    FLOOR_DB,
    HOP_SAMPLES,
    N_BANDS,
    PeerBatchConfig,
    PeerBatches,
    instruments,
    scaled,
    sound_mel,
    unscaled,
)
from miao.peers.inverter import Inverter, InverterConfig, InverterObjective, bin_magnitudes, griffin_lim, invert
from miao.peers.midi2wave import ROWS, Midi2WaveConfig, Midi2WaveObjective, piano_roll, predict_mel
from miao.peers.trained import KINDS, again, held_out_losses, load_inverter, load_peer, peer_of, peer_trainer
from miao.sound.spectrum import SAMPLE_RATE, mel_filters

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # streams left half read

SMALL = InverterConfig(channels=24, kernels=(3,), dilations=(1, 3), judge_channels=4, crop_rows=24, iterations=8)
TINY = {
    "inverter": ("model.channels=16", "model.kernels=[3]", "model.dilations=[1]", "model.crop_rows=12",
                 "model.judge_channels=4", "model.adversarial_from=2", "model.iterations=2"),
    "midi2wave": ("model.width=32", "model.n_heads=2", "model.n_layers=1", "model.hidden=32"),
    "midi-ddsp": ("model.width=16", "model.n_blocks=1", "model.voice_width=8", "model.expression_width=8",
                  "model.n_harmonics=8", "model.n_bands=9", "model.crop_hops=12", "model.tail_seconds=0.3",
                  "model.fft_sizes=[512]"),
    "mi-ddpm": ("model.width=32", "model.n_heads=2", "model.hidden=32", "model.note_layers=1",
                "model.context_layers=1", "model.decoder_layers=1"),
}  # fmt: skip


def tune(*pitches, voice=0, seconds=0.8):
    return played(*((0.1 + n, 0.1 + n + seconds, pitch, 90, voice) for n, pitch in enumerate(pitches)))


@pytest.fixture(scope="module")
def pairs_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for shard in range(2):
        pairs = [replace(sines_pair(tune(60 + shard, 64, 67 + n)), name=f"made/{shard}{n}") for n in range(4)]
        write_shard(folder / "train" / f"pairs-{shard:06d}.tar", pairs)
    write_shard(folder / "validation" / "pairs-000000.tar", [sines_pair(tune(62, 65))])
    make_toy_bank().table.save(folder / "voices.safetensors")
    return folder


def tiny_trainer(name, folder, pairs, *changes):
    few = ("batch.pairs=2", "batch.lanes=2", "train.steps=4", "train.precision=fp32", "train.ramp_up_steps=1")
    return peer_trainer(name, (*TINY[name], *few, *changes), folder, pairs / "train")


@pytest.fixture(scope="module")
def runs(pairs_folder, tmp_path_factory):
    """A run of each peer, hardly trained, and of the inverter."""
    folder = tmp_path_factory.mktemp("runs")
    for name in KINDS:
        trainer = tiny_trainer(name, folder / name, pairs_folder)
        trainer.step()
        trainer.save()
    return folder


def some_score(midi):
    """A tune and some drums on a channel that is panned to the left; the tune changes its instrument halfway."""
    first = {"notes": [(0.0, 0.5, 69, 100)], "program": 40, "controls": [(0.0, 10, 0)]}
    return read_score(midi(first, {"notes": [(0.2, 0.3, 36, 90), (0.6, 0.7, 42, 90)], "channel": 9}))


def strongest_hz(sound):
    """The frequency of the strongest partial, between bins by a parabola."""
    power = np.log(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) + 1e-12)
    peak = int(power.argmax())
    left, middle, right = power[peak - 1 : peak + 2]
    return (peak + 0.5 * (left - right) / (left - 2 * middle + right)) * SAMPLE_RATE / len(sound)


# the peers' mel, notes, and pairs with sound


def test_a_row_of_the_mel_sees_its_own_hop_and_a_full_scale_sine_is_0_db():
    sound = np.zeros(40 * HOP_SAMPLES, np.float32)
    sound[20 * HOP_SAMPLES + HOP_SAMPLES // 2] = 1
    assert sound_mel(sound).max(axis=1).argmax() == 20
    sine = np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    assert sound_mel(sine)[50].max() == pytest.approx(0, abs=0.7)


def test_a_long_mel_is_made_in_blocks_that_do_not_show(monkeypatch):
    sound = np.random.default_rng(0).standard_normal(60 * HOP_SAMPLES).astype(np.float32)
    whole = sound_mel(sound)
    monkeypatch.setattr("miao.peers.inputs._BLOCK_ROWS", 7)
    np.testing.assert_allclose(sound_mel(sound), whole, atol=1e-4)
    assert whole.shape == (60, N_BANDS)
    np.testing.assert_allclose(unscaled(scaled(whole)), whole, atol=1e-4)


def test_a_pair_keeps_its_sound_through_a_shard(tmp_path):
    pair = sines_pair(tune(60, 67))
    without = replace(pair, name="none", sound=None)
    write_shard(tmp_path / "pairs-000000.tar", [pair, without])
    first, second = read_shard(tmp_path / "pairs-000000.tar")
    np.testing.assert_allclose(first.sound, pair.sound, atol=np.abs(pair.sound).max() / 2**15)
    assert second.sound is None and len(second.notes) == 2


def test_pairs_without_sound_are_refused_in_one_line(tmp_path):
    for shard in range(2):
        silent = [replace(sines_pair(tune(60)), name=name, sound=None) for name in "ab"]
        write_shard(tmp_path / f"pairs-{shard:06d}.tar", silent)
    batches = PeerBatches(PeerBatchConfig(pairs=2, lanes=2), tmp_path, lambda pairs, rng: pairs, range(2))
    with pytest.raises(DataError, match=r"a pair without its sound.*--sound"):
        batches.draw()


def test_drums_are_one_instrument_and_programs_are_their_own():
    notes = played((0, 1, 36, 90, drum_voice(36)), (0, 1, 60, 90, 5))
    assert instruments(notes).tolist() == [DRUM_KIT, 5]


def test_a_track_becomes_notes_of_its_voices(midi):
    score = some_score(midi)
    for track in score.tracks:
        notes = pair_notes(track.notes)
        np.testing.assert_array_equal(notes["start"], track.notes["start"])
        for note, theirs in zip(notes, track.notes, strict=True):
            pitch = int(theirs["pitch"])
            assert note["voice"] == (drum_voice(pitch) if theirs["is_drum"] else theirs["program"])


# the inverter


def test_bins_have_the_mel_spectrogram_that_they_were_made_from():
    pair = sines_pair(tune(57, 69, 76, 84))
    mel = torch.from_numpy(sound_mel(pair.sound + 1e-3 * np.random.default_rng(0).standard_normal(225_792)))
    filters = torch.from_numpy(mel_filters(N_BANDS))
    back = 10 * torch.log10(bin_magnitudes(mel).square() @ filters.T)
    assert float((back - mel).abs().mean()) < 0.3


@pytest.mark.parametrize("hz", [219.3, 437.7, 1234.5])  # no multiples of the hop's 100 Hz
def test_the_source_holds_a_tone_between_multiples_of_the_hop(hz):
    tone = (0.3 * np.sin(2 * np.pi * hz * np.arange(200 * HOP_SAMPLES) / SAMPLE_RATE)).astype(np.float32)
    mel = torch.from_numpy(sound_mel(tone))[None]
    phases = torch.rand(1, 200, 1025, generator=torch.Generator().manual_seed(0))
    sound = griffin_lim(bin_magnitudes(mel), 16, phases)[0].numpy()
    middle = sound[40 * HOP_SAMPLES : 160 * HOP_SAMPLES]
    assert abs(1200 * np.log2(strongest_hz(middle) / hz)) < 35
    assert np.sqrt(np.square(middle).mean()) == pytest.approx(0.3 / 2**0.5, rel=0.3)


def test_an_untrained_inverter_gives_its_source():
    torch.manual_seed(0)
    source = torch.randn(1, 10 * HOP_SAMPLES) * 0.1
    made = Inverter(SMALL)(torch.full((1, 10, N_BANDS), -40.0), source)
    torch.testing.assert_close(made, source, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_the_inverter_learns_one_window_and_its_judges_learn_beside_it():
    torch.manual_seed(0)
    objective = InverterObjective(replace(SMALL, adversarial_from=1), "fp32")
    pair = sines_pair(tune(57, 69, 76, 84))
    batch = objective.collate([pair, pair], np.random.default_rng(0))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    losses = []
    for step in range(40):
        results = objective(batch, step)
        results["loss/total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append({name: float(value.detach()) for name, value in results.items()})
    assert losses[-1]["loss/total"] - losses[-1]["loss/judges"] < 0.8 * losses[0]["loss/total"]
    assert losses[-1]["loss/judges"] < 0.9 * losses[1]["loss/judges"]


def test_generator_and_judges_do_not_move_each_other():
    torch.manual_seed(0)
    objective = InverterObjective(SMALL, "fp32")
    batch = objective.collate([sines_pair(tune(60))], np.random.default_rng(0))
    made = objective.model(batch.mel, batch.source)
    pleased, alike, judged = objective._judged(made, batch.sound)
    of_judges, of_model = list(objective.judges.parameters()), list(objective.model.parameters())
    assert not any(g is not None for g in torch.autograd.grad(pleased + alike, of_judges, retain_graph=True,
                                                              allow_unused=True))  # fmt: skip
    assert not any(g is not None for g in torch.autograd.grad(judged, of_model, retain_graph=True, allow_unused=True))
    assert any(g is not None for g in torch.autograd.grad(pleased + alike, of_model, allow_unused=True))


def test_long_sounds_are_inverted_in_blocks_without_a_gap_and_silence_stays(monkeypatch):
    monkeypatch.setattr(inv, "_BLOCK_ROWS", 60)
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(200 * HOP_SAMPLES) / SAMPLE_RATE)).astype(np.float32)
    tone[120 * HOP_SAMPLES :] = 0
    model = Inverter(SMALL).eval()
    sound = again(model, tone)
    np.testing.assert_array_equal(sound, again(model, tone))
    level = np.sqrt(np.square(sound).reshape(200, HOP_SAMPLES).mean(axis=1))
    assert level[10:110].min() > 0.1 and level[190:].max() < 1e-3
    assert len(invert(model, np.zeros((0, N_BANDS), np.float32))) == 0


# Midi2Wave


def test_the_roll_holds_every_note_where_it_sounds():
    notes = played((0.5, 1.0, 60, 127, 0), (0.7, 0.7, 64, 64, 0), (-1.0, 0.2, 67, 64, 0), (6, 7, 70, 64, 0))
    onset, velocity, age = piano_roll(notes, 0.0).reshape(ROWS, 3, 128).transpose(1, 0, 2)
    assert np.flatnonzero(onset[:, 60]).tolist() == [50] and onset[50, 60] == 1
    assert np.flatnonzero(velocity[:, 60]).tolist() == list(range(50, 100))
    assert np.flatnonzero(velocity[:, 64]).tolist() == [70], "a note without length has a row"
    assert not onset[:, 67].any() and np.flatnonzero(velocity[:, 67]).tolist() == list(range(20))
    assert age[0, 67] > age[99, 60] > age[51, 60] > age[50, 60] == 0, "it began a second before the window"
    assert not velocity[:, 70].any()


@pytest.fixture(scope="module")
def learnt_midi2wave():
    torch.manual_seed(0)
    pair = sines_pair(tune(69, 76, 81))
    objective = Midi2WaveObjective(Midi2WaveConfig(width=64, n_heads=2, n_layers=1, hidden=64), "fp32")
    batch = objective.collate([pair], np.random.default_rng(0))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    errors = []
    for step in range(400):
        results = objective(batch, step)
        results["loss/total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(float(results["error_db"]))
    return pair, objective.model.eval(), errors


@pytest.mark.slow
def test_midi2wave_learns_one_window(learnt_midi2wave):
    _, _, errors = learnt_midi2wave
    assert errors[-1] < 0.1 * errors[0]


@pytest.mark.slow
def test_midi2wave_plays_the_pitches_of_what_it_has_learnt(learnt_midi2wave):
    pair, model, _ = learnt_midi2wave
    mel = predict_mel(model, pair.notes, ROWS)
    sound = invert(Inverter(SMALL).eval(), mel)
    for note in pair.notes:
        begin = round((note["start"] + 0.2) * SAMPLE_RATE)
        hz = strongest_hz(sound[begin : begin + 20_000])
        assert abs(1200 * np.log2(hz / 440) - 100 * (note["pitch"] - 69)) < 50, note["pitch"]
    np.testing.assert_array_equal(mel, predict_mel(model, pair.notes, ROWS))


def test_midi2wave_refuses_windows_of_several_instruments():
    mixed = sines_pair(played((0.1, 0.9, 60, 90, 0), (0.2, 0.9, 64, 90, 40)))
    objective = Midi2WaveObjective(Midi2WaveConfig(width=32, n_heads=2, n_layers=1, hidden=32), "fp32")
    with pytest.raises(DataError, match="several instruments; make pairs with `--mixes 0`"):
        objective.collate([mixed], np.random.default_rng(0))


@pytest.mark.slow
def test_midi2wave_is_silent_without_notes_and_plays_on_past_a_window(learnt_midi2wave):
    pair, model, _ = learnt_midi2wave
    assert (predict_mel(model, pair.notes[:0], 700) == FLOOR_DB).all()
    late = pair.notes.copy()
    for name in ("start", "end", "damp"):
        late[name] += 5.12
    mel = predict_mel(model, late, 1100)
    assert mel.shape == (1100, N_BANDS)
    assert mel[:380].max() < -60 < mel[560:580].max(), "nothing sounds before the first note"


# all of them, as runs and systems


@pytest.mark.parametrize("name", list(KINDS))
def test_a_peer_that_is_stopped_goes_on_as_if_it_had_not(name, pairs_folder, tmp_path):
    whole = tiny_trainer(name, tmp_path / "whole", pairs_folder)
    steps = [whole.step() for _ in range(2)]
    first = tiny_trainer(name, tmp_path / "stopped", pairs_folder)
    assert first.step() == steps[0]
    first.save()
    again = tiny_trainer(name, tmp_path / "stopped", pairs_folder)
    assert again.resume()
    assert again.step() == steps[1]
    held_out = list(read_shard(pairs_folder / "validation" / "pairs-000000.tar"))
    losses = held_out_losses(again, held_out)
    assert np.isfinite(list(losses.values())).all() and losses["loss/total"] > 0


@pytest.mark.parametrize("name", ["midi2wave", "midi-ddsp", "mi-ddpm"])
def test_a_peer_plays_a_score_track_by_track(name, runs, midi):
    score = some_score(midi)
    silence = np.zeros((2, round(1.5 * SAMPLE_RATE)), np.float32)
    piece = Piece(score, 1.5, Sound(silence, None), None)
    player = system(f"{name}:{runs / name}")
    sound = player.play(piece)
    assert sound.stems.shape == (len(score.tracks), *silence.shape)
    assert np.isfinite(sound.mix).all()
    np.testing.assert_allclose(sound.mix, sound.stems.sum(axis=0), atol=rounding())
    np.testing.assert_array_equal(sound.mix, player.play(piece).mix)
    assert player.name == f"{name}:{name}" and not player.is_floor
    assert load_peer(runs / name).n_parameters > 1000


def test_the_inverter_plays_the_reference_again(runs, midi):
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)
    stereo = np.stack([tone, tone])
    piece = Piece(some_score(midi), 1.0, Sound(stereo, stereo[None]), None)
    sound = system(f"inverter:{runs / 'inverter'}").play(piece)
    assert sound.stems.shape == (1, *stereo.shape)
    assert abs(1200 * np.log2(strongest_hz(sound.mix[0, 10_000:30_000]) / 440)) < 50


def test_what_is_no_run_of_a_peer_is_said_in_one_line(runs, tmp_path):
    with pytest.raises(CheckpointError, match="no run of a peer"):
        load_peer(tmp_path)
    with pytest.raises(CheckpointError, match="not of an inverter"):
        load_inverter(runs / "midi2wave")
    with pytest.raises(ConfigError, match="is a run of midi2wave"):
        system(f"mi-ddpm:{runs / 'midi2wave'}")
    with pytest.raises(ConfigError, match="say midi2wave:RUN"):
        system("midi2wave")
    (tmp_path / "other.toml").write_text('[peer]\nname = "wavenet"\n')
    with pytest.raises(ConfigError, match='there is no peer "wavenet"; there are inverter'):
        peer_of(str(tmp_path / "other.toml"))
    assert peer_of("pairs") is None


def test_the_command_line_trains_a_peer_and_measures_it(pairs_folder, tmp_path):
    sets = [*TINY["midi2wave"], "batch.pairs=2", "batch.lanes=2", "train.steps=2", "train.precision=fp32"]
    words = ["train", "midi2wave", "--data", str(pairs_folder), "-o", str(tmp_path / "run")]
    ran = CliRunner().invoke(app, [*words, *(w for change in sets for w in ("--set", change))], catch_exceptions=False)
    assert ran.exit_code == 0
    lines = (tmp_path / "run" / "log.jsonl").read_text()
    assert "held_out/error_db" in lines
    assert (tmp_path / "run" / "model.safetensors").is_file()
