"""Training on notes made up on the spot: it learns, it resumes, and what it exports is what it was."""

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_toy_bank, rounding

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.voices import N_PROGRAMS
from miao.config import load_preset
from miao.datasets.notes import NoteData
from miao.errors import CheckpointError, ConfigError
from miao.training.chunks import chunk_tables, gather, heard_in_either
from miao.training.scheme import RunConfig, decode_with, load_model, miao_trainer, rollout
from miao.training.trainer import learning_rate

torch.set_num_threads(1)  # as `miao train` does: sums of several threads are not the same each time

LEVELS = rounding(tk.N_LEVELS, 48)  # of a net's levels: its longest sums are of 48 numbers
KINDS = (tk.ATTACK, tk.SUSTAIN, tk.RELEASE)


def made_up_notes():
    """Two voices: one loud in its first partial, the other in its second; both fall in a straight line."""
    notes = []
    for voice in (0, 1):
        for pitch in (50, 60, 70):
            for velocity in (40, 100):
                top = 50 + 40 * np.log10(velocity / 127) / tk.LEVEL_STEP_DB
                held = np.zeros((2, tk.CHUNK_STEPS, tk.N_CELLS))
                held[..., tk.PITCH_CELL] = tk.CENTS_CENTRE
                held[0, :, voice] = top - 0.1 * np.arange(tk.CHUNK_STEPS)
                held[1, :, voice] = top - 3.2 - 0.3 * np.arange(tk.CHUNK_STEPS)
                release = np.zeros((1, tk.CHUNK_STEPS, tk.N_CELLS))
                release[..., tk.PITCH_CELL] = tk.CENTS_CENTRE
                release[0, :, voice] = np.maximum(top - 12 - 3 * np.arange(tk.CHUNK_STEPS), 0)
                tokens = tk.NoteTokens(held.astype(np.uint8), release.astype(np.uint8), 0.8)
                notes.append(NoteData(voice, pitch, velocity, tokens))
    return notes


def tiny(folder, *changes):
    return miao_trainer(load_preset(RunConfig, "tiny", changes), folder, notes=made_up_notes())


def in_half(net):
    """The net with its large weights in half precision, as a bank keeps them."""
    net = copy.deepcopy(net)
    for p in net.parameters():
        if p.numel() >= 256:
            p.data = p.data.half().float()
    return net


def assert_as_near(got, wanted, roughly):
    """What was got is no farther from the wanted than half precision of the weights explains. The exporter merges
    kernels before it rounds, so other weights are rounded: the error is another one of the same size."""
    limit = 4 * np.abs(np.asarray(roughly) - wanted).max()
    assert limit > 0
    np.testing.assert_allclose(got, wanted, rtol=0, atol=limit)


def ignore(*_):
    """Listens to nothing."""


def test_steps_after_the_key_is_up_do_not_belong_to_a_held_chunk():
    tables = chunk_tables(made_up_notes())
    sustain = tables[tk.SUSTAIN]
    assert set(sustain.n_valid) == {round((0.8 - tk.ATTACK_SECONDS) / tk.STEP_SECONDS[tk.SUSTAIN])}


def test_a_drum_learns_to_fall_silent():
    note = made_up_notes()[0]
    drum = NoteData(N_PROGRAMS, 27, 100, tk.NoteTokens(note.tokens.held[:1], note.tokens.release, 0.05))
    attack, sustain, _ = chunk_tables([note, drum])  # the other note has a release
    assert attack.n_valid.tolist() == [32, 32]  # nobody lets go of a drum
    assert sustain.n_valid[sustain.voice == N_PROGRAMS].tolist() == [32]
    assert not sustain.target[sustain.voice == N_PROGRAMS][..., : tk.PITCH_CELL].any()


def test_what_is_heard_though_it_should_not_be_counts_in_full():
    tables = chunk_tables(made_up_notes())
    batch = gather(tables[tk.ATTACK], np.arange(4), np.random.default_rng(0), 0.0, 24)
    silent = batch.target == 0
    silent[..., tk.PITCH_CELL] = False
    expected = batch.target.clone()
    expected[0, 3, 7] = batch.loudest[0]
    assert silent[0, 3, 7]
    weight = heard_in_either(batch, expected)
    assert weight[0, 3, 7] == 1
    weight[0, 3, 7] = batch.weight[0, 3, 7]
    torch.testing.assert_close(weight, batch.weight)


def test_a_release_sets_out_from_the_last_token_before_the_key_was_up():
    notes = made_up_notes()
    release = chunk_tables(notes)[tk.RELEASE]
    row = int(np.flatnonzero(release.note == 0)[0])
    np.testing.assert_array_equal(release.previous[row], notes[0].tokens.held[1, 31])


@pytest.mark.slow
def test_the_error_falls_while_it_trains(tmp_path):
    trainer = tiny(tmp_path, "train.steps=80")
    first = trainer.step()
    for _ in range(79):
        last = trainer.step()
    assert last["loss/am"] < 0.6 * first["loss/am"]
    assert last["error_db/attack"] < 0.5 * first["error_db/attack"]


@pytest.mark.parametrize("rollout_every", [0, 2])
def test_resuming_equals_not_having_stopped(tmp_path, rollout_every):
    changes = ("train.steps=3", "train.checkpoint_every=2", f"train.rollout_every={rollout_every}")
    whole = tiny(tmp_path, *changes)
    for _ in range(2):
        whole.step()
    whole.save()
    resumed = tiny(tmp_path, *changes)
    assert resumed.resume()
    assert resumed.step()["loss/am"] == whole.step()["loss/am"]
    values = resumed.objective.state_dict()
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, values[name]), name


def test_a_rollout_gives_the_tokens_that_the_net_itself_would_have_left(tmp_path):
    trainer = tiny(tmp_path)
    attack, sustain, _ = trainer.batches.tables
    own = rollout(trainer)
    assert not own[tk.ATTACK].any()
    trainer.save()
    decode = decode_with(load_model(tmp_path))
    columns = ("voice", "pitch", "velocity", "index", "age")
    context = np.zeros((len(attack.note), trainer.config.model.width), np.float32)
    first, _ = decode(tk.ATTACK, **{c: getattr(attack, c) for c in columns}, previous=own[tk.ATTACK], context=context)
    np.testing.assert_allclose(own[tk.SUSTAIN], first[:, -1], rtol=0, atol=LEVELS)
    second, _ = decode(tk.SUSTAIN, **{c: getattr(sustain, c) for c in columns}, previous=first[:, -1], context=context)
    np.testing.assert_allclose(own[tk.RELEASE], second[:, sustain.n_valid[0] - 1], rtol=0, atol=LEVELS)


def test_rollouts_must_fall_on_checkpoints(tmp_path):
    with pytest.raises(ConfigError, match="checkpoint_every"):
        tiny(tmp_path, "train.checkpoint_every=30", "train.rollout_every=7")


def test_a_run_logs_and_leaves_a_checkpoint_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr("miao.training.trainer._LOG_EVERY", 2)
    trainer = tiny(tmp_path, "train.steps=4", "train.checkpoint_every=4")
    trainer.folder.mkdir(exist_ok=True)
    seen = []
    trainer.fit(lambda step, means, seconds: seen.append((step, means)), ignore)
    assert [step for step, _ in seen] == [2, 4] and set(seen[0][1]) >= {"loss/am", "error_db/attack"}
    assert load_model(tmp_path).config == trainer.config.model


def test_a_checkpoint_makes_its_folder_and_the_time_of_a_step_is_that_of_this_run(tmp_path, monkeypatch):
    trainer = tiny(tmp_path / "new" / "folder")
    trainer.step()
    trainer.save()
    again = tiny(tmp_path / "new" / "folder", "train.steps=3")
    assert again.resume() and again.step_number == 1
    again.save = lambda: None
    monkeypatch.setattr("miao.training.trainer.time", SimpleNamespace(monotonic=iter([100.0, 103.0]).__next__))
    seen = []
    again.fit(lambda step, means, seconds: seen.append((step, seconds)), ignore)
    assert seen == [(3, 1.5)]


def test_a_damaged_checkpoint_is_named(tmp_path):
    trainer = tiny(tmp_path)
    trainer.save()
    (tmp_path / "training.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot resume"):
        tiny(tmp_path).resume()
    with pytest.raises(CheckpointError, match=r"config.toml and model.safetensors"):
        load_model(tmp_path / "elsewhere")


def test_the_learning_rate_ramps_up_and_then_falls():
    config = load_preset(RunConfig, "tiny").train
    rates = [learning_rate(step, config) for step in range(config.steps + 1)]
    assert np.argmax(rates) in (config.ramp_up_steps - 1, config.ramp_up_steps)
    assert rates[-1] < 0.02 * config.learning_rate


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r'"model.widht" is not a setting; there are .*width'):
        load_preset(RunConfig, "tiny", ("model.widht=3",))
    with pytest.raises(
        ConfigError, match=r'no preset "huge"; there are gm, inverter, mi-ddpm, .*, pairs, paper, small, tiny'
    ):
        load_preset(RunConfig, "huge")
    with pytest.raises(ConfigError, match=r'"train\.steps" is "many": it must be a whole number, 1 or more'):
        load_preset(RunConfig, "tiny", ("train.steps=many",))


def test_weights_are_kept_in_half_precision_and_bytes_where_they_are_large(monkeypatch):
    onnx = pytest.importorskip("onnx")
    from miao.training import export

    monkeypatch.setattr(export, "_BYTES_FROM", 4000)
    random, shapes = np.random.default_rng(0), {"few": (8,), "some": (40, 20), "rows": (80, 90), "columns": (90, 80)}
    whole = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(w, n) for n, w in whole.items()])
    model = onnx.helper.make_model(graph)
    export._shrink(model)
    kept = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    assert set(kept) == {"few", "some_half", "rows_bytes", "rows_scale", "columns_bytes", "columns_scale"}
    assert (kept["few"] == whole["few"]).all() and kept["some_half"].dtype == np.float16
    axes = {node.output[0]: node.attribute[0].i for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for name, axis in axes.items():
        scale = np.expand_dims(kept[f"{name}_scale"], 1 - axis)
        off = np.abs(kept[f"{name}_bytes"] * scale - whole[name])
        assert kept[f"{name}_bytes"].dtype == np.int8 and (off <= 0.501 * scale).all()
    assert axes == {"rows": 1, "columns": 0}, "a scale for each of the many outputs"


def test_the_exported_graphs_give_what_the_nets_give(tmp_path):
    pytest.importorskip("onnx")
    from miao.training.export import example_inputs, export_bank

    trainer = tiny(tmp_path / "run")
    trainer.step()
    trainer.save()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        export_bank(tmp_path / "run", make_toy_bank().table, tmp_path / "bank")
    bank, model = Bank.load(tmp_path / "bank", 1), load_model(tmp_path / "run")
    rough = in_half(model)
    for kind in KINDS:
        inputs = example_inputs(7, model.config.width, seed=kind)
        inputs["index"] = np.maximum(inputs["index"], 1)  # a bank's releases set out from where notes are
        told = zip(
            bank.decode(kind, **inputs), *(decode_with(net)(kind, **inputs) for net in (model, rough)), strict=True
        )
        for got, wanted, roughly in told:
            assert_as_near(got, wanted, roughly)
    frames = np.random.default_rng(0).random((1, 5, 1024, 128), np.float32)
    with torch.no_grad():
        context, roughly = (net.encoder(torch.from_numpy(frames)).context().numpy() for net in (model, rough))
    assert_as_near(bank.encode(frames), context, roughly)
