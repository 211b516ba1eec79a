"""The paper's scheme on pairs made up on the spot: the losses by hand, what is learnt, lanes, processes, resuming."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_toy_bank

from miao.bank import tokens as tk
from miao.bank.frames import AUDIO_FRAME_SECONDS, WINDOW_AUDIO_FRAMES, WINDOW_TOKENS, last_token
from miao.bank.voices import pitch_hz
from miao.config import load_preset
from miao.datasets.pairs import MEL_FLOOR_DB, PAIR_NOTE, Pair, from_bytes, read_shard, to_bytes, write_shard
from miao.errors import ConfigError, DataError
from miao.sound.spectrum import HIGH_HZ, LOW_HZ, N_MELS
from miao.training.batches import BatchConfig, Batches, coloured, pair_chunks, pair_stream
from miao.training.held_out import held_out_pairs, measure
from miao.training.losses import mac_loss, mam_loss, mined
from miao.training.scheme import RunConfig, load_model, load_understanding, miao_trainer

torch.set_num_threads(1)  # as `miao train` does: sums of several threads are not the same each time

# streams that nobody reads to the end leave their shard open until they are collected
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CENTRES_HZ = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + f / 700) for f in (LOW_HZ, HIGH_HZ)), N_MELS) / 2595) - 1)


def made_up_pair(seed):
    """Some notes, an image with their harmonics, and tokens: one partial that falls in a straight line."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 14))
    notes = np.zeros(n, PAIR_NOTE)
    notes["start"] = np.sort(rng.uniform(0, 4.5, n))
    notes["damp"] = notes["end"] = notes["start"] + rng.uniform(0.2, 0.9, n)
    notes["pitch"], notes["velocity"] = rng.integers(48, 84, n), rng.integers(40, 127, n)
    mel = np.full((WINDOW_AUDIO_FRAMES, N_MELS), MEL_FLOOR_DB, np.float16)
    tokens = {}
    for i, note in enumerate(notes):
        rows = slice(*(round(note[x] / AUDIO_FRAME_SECONDS) for x in ("start", "damp")))
        for k in range(1, 7):
            band = int(np.abs(CENTRES_HZ - k * pitch_hz(int(note["pitch"]))).argmin())
            mel[rows, band] = np.maximum(mel[rows, band], -20 - 3 * k)
        held = np.zeros((1, tk.CHUNK_STEPS, tk.N_CELLS), np.uint8)
        held[..., tk.PITCH_CELL] = tk.CENTS_CENTRE
        held[0, :, 0] = 20 + note["velocity"] // 4
        release = np.zeros_like(held)
        release[..., tk.PITCH_CELL] = tk.CENTS_CENTRE
        tokens[i] = tk.NoteTokens(held, release, 0.15)
    return Pair(f"made/up@{seed}", notes, mel, tokens)


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for shard in range(4):
        write_shard(folder / "train" / f"pairs-{shard:06d}.tar", (made_up_pair(16 * shard + i) for i in range(16)))
    write_shard(folder / "validation" / "pairs-000000.tar", (made_up_pair(1000 + i) for i in range(24)))
    make_toy_bank().table.save(folder / "voices.safetensors")
    return folder


def tiny(pairs, folder, *changes):
    return miao_trainer(load_preset(RunConfig, "tiny", changes), folder, pairs=pairs / "train")


# the losses, by hand and by another's


def test_mac_of_two_pairs_by_hand():
    similarity = torch.tensor([[0.9, 0.1], [0.3, 0.5]])
    own = torch.tensor([0, 1])
    by_hand = (np.log(1 + np.exp(-0.8 / 0.5)) + np.log(1 + np.exp(-0.2 / 0.5))) / 2
    assert float(mac_loss(similarity, own, 0.5)) == pytest.approx(by_hand, rel=1e-5)


def test_mac_is_cross_entropy_and_its_soft_targets_are_a_mixture():
    torch.manual_seed(0)
    similarity, soft, own = torch.randn(5, 9), torch.randn(5, 9), torch.arange(5)
    targets = 0.6 * F.one_hot(own, 9) + 0.4 * torch.softmax(soft / 0.07, dim=1)
    expected = F.cross_entropy(similarity / 0.07, targets)
    torch.testing.assert_close(mac_loss(similarity, own, 0.07, soft_similarity=soft, soft_share=0.4), expected)
    torch.testing.assert_close(mac_loss(similarity, own, 0.07), F.cross_entropy(similarity / 0.07, own))


def test_a_temperature_of_99_tells_nothing_apart():
    perfect = torch.eye(64)
    own = torch.arange(64)
    assert float(mac_loss(perfect, own, 99.0)) == pytest.approx(np.log(64), abs=0.02)
    assert float(mac_loss(perfect, own, 0.07)) < 0.01


def test_mam_by_hand():
    logits, is_match = torch.tensor([0.0, 2.0]), torch.tensor([True, False])
    assert float(mam_loss(logits, is_match)) == pytest.approx((np.log(2) + np.log(1 + np.exp(2))) / 2, rel=1e-6)


def test_mined_negatives_are_never_the_partner_and_mostly_the_most_alike():
    similarity = torch.tensor([[1.0, 0.8, 0.1, 0.0]]).repeat(2000, 1)
    lots = torch.from_numpy(np.random.default_rng(0).gumbel(size=(2000, 4)).astype(np.float32))
    drawn = mined(similarity, torch.zeros(2000, dtype=torch.long), 0.3, lots)
    shares = torch.bincount(drawn, minlength=4) / 2000
    expected = torch.softmax(similarity[0, 1:] / 0.3, dim=0)
    assert shares[0] == 0
    torch.testing.assert_close(shares[1:], expected, atol=0.03, rtol=0)


# pairs and how they are drawn


def test_a_pair_survives_being_written():
    pair = made_up_pair(3)
    again = from_bytes(pair.name, to_bytes(pair))
    assert (again.notes == pair.notes).all() and (again.mel == pair.mel).all()
    assert again.tokens.keys() == pair.tokens.keys()
    np.testing.assert_array_equal(again.tokens[2].held, pair.tokens[2].held)


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "pairs-000000.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match=r"pairs-000000\.tar: not a shard"):
        list(read_shard(tmp_path / "pairs-000000.tar"))
    with pytest.raises(DataError, match="miao data pairs"):
        held_out_pairs(tmp_path / "elsewhere", 3)


def test_lanes_share_out_the_shards_without_overlap(pairs_folder):
    lanes = [pair_stream(pairs_folder / "train", lane, 4, seed=5) for lane in range(4)]
    names = [[next(lane).name for _ in range(16)] for lane in lanes]  # once round: 4 shards of 16
    assert len({name for some in names for name in some}) == 64
    assert {next(lanes[0]).name for _ in range(16)} != set(names[0])  # dealt out anew


def test_a_stream_goes_on_where_it_was(pairs_folder):
    whole = pair_stream(pairs_folder / "train", 1, 2, seed=0)
    names = [next(whole).name for _ in range(50)]
    later = pair_stream(pairs_folder / "train", 1, 2, seed=0, skip=37)
    assert [next(later).name for _ in range(13)] == names[37:]


def test_too_few_shards_for_the_lanes_are_told(pairs_folder):
    with pytest.raises(DataError, match=r"4 shards for 8 lanes; set batch\.lanes"):
        next(pair_stream(pairs_folder / "train", 0, 8, seed=0))


def test_two_shares_of_the_lanes_make_the_batch_of_all(pairs_folder):
    config = BatchConfig(pairs=8, pair_chunks=16, lanes=4)
    whole, first, second = (Batches(config, 24, lanes, pairs=pairs_folder / "train").draw()
                            for lanes in (range(4), range(2), range(2, 4)))  # fmt: skip
    torch.testing.assert_close(torch.cat([first.mel, second.mel]), whole.mel)
    torch.testing.assert_close(first.lots, whole.lots)
    for a, b, both in zip(first.chunks, second.chunks, whole.chunks, strict=True):
        torch.testing.assert_close(torch.cat([a.target, b.target]), both.target)
        moved = torch.where(b.place > 0, b.place + 4 * WINDOW_TOKENS, 0)
        torch.testing.assert_close(torch.cat([a.place, moved]), both.place)


def test_a_colour_is_a_gain_and_a_tilt():
    mel = torch.full((2, 3, N_MELS), -50.0)
    changed = coloured(mel, torch.tensor([[2.0, 6.0], [0.0, -60.0]]))
    assert changed[0, :, 0].tolist() == [-54.0] * 3 and changed[0, :, -1].tolist() == [-42.0] * 3
    assert changed[1, 0, -1] == MEL_FLOOR_DB


def test_a_chunk_gets_the_context_of_the_moment_before_it():
    pairs = [made_up_pair(0), made_up_pair(1)]
    attack = pair_chunks(pairs, 500, 0.0, 24, np.random.default_rng(0))[tk.ATTACK]
    wanted = []
    for window, pair in enumerate(pairs):
        tokens = [last_token(start) for start in pair.notes["start"]]
        wanted += [1 + window * WINDOW_TOKENS + t if t >= 0 else 0 for t in tokens]
    assert sorted(attack.place.tolist()) == sorted(wanted)


# learning


@pytest.mark.slow
def test_all_three_losses_fall_and_what_they_stand_for_rises_on_held_out_pairs(pairs_folder, tmp_path):
    trainer = tiny(pairs_folder, tmp_path, "train.steps=60", "train.average_decay=0.8", "objective.mac=1.0",
                   "train.learning_rate=5e-3")  # fmt: skip
    held_out = held_out_pairs(pairs_folder / "validation", 24)
    trainer.save()
    before = measure(load_model(tmp_path), load_understanding(tmp_path), held_out)
    losses = [trainer.step() for _ in range(60)]
    for name, share in (("loss/am", 0.8), ("loss/mam", 0.98)):
        first, last = (np.mean([step[name] for step in some]) for some in (losses[:5], losses[-10:]))
        assert last < share * first, name
    full = [step["loss/mac"] for step in losses[10:]]  # before that the queue still fills
    assert np.mean(full[-10:]) < 0.95 * np.mean(full[:5])
    trainer.save()
    after = measure(load_model(tmp_path), load_understanding(tmp_path), held_out)
    assert after["recall@1"] > 0.2 + before["recall@1"]
    assert after["recall@10"] > 0.2 + before["recall@10"]
    assert after["accuracy/match"] > before["accuracy/match"]
    assert after["error_db/all"] < 0.8 * before["error_db/all"]
    print(before, after)


@pytest.mark.parametrize("changes", [
    ("objective.am=0.0",), ("objective.audio_encoder=false",), ("objective.contrast_on=cls",), ("model.decoder=ffn",),
    ("model.share=midi",), ("model.share=decoder",), ("train.accumulate=2",), ("batch.pair_chunks=0",),
    ("batch.colour_db=6.0",),
], ids=lambda changes: changes[0])  # fmt: skip
def test_an_ablation_is_a_setting(pairs_folder, tmp_path, changes):
    changes = ("batch.pairs=2", "batch.pair_chunks=8", *changes)
    trainer = tiny(pairs_folder, tmp_path, *changes)
    results = trainer.step()
    assert np.isfinite(list(results.values())).all()
    assert ("loss/mac" in results) == ("audio_encoder" not in changes[-1])
    if changes[-1].startswith(("objective.audio", "model.")):  # what else there is to save is the same for all
        trainer.save()
        again = tiny(pairs_folder, tmp_path, *changes)
        assert again.resume() and again.step_number == 1
        resumed = again.objective.state_dict()
        for name, value in trainer.objective.state_dict().items():
            assert torch.equal(value, resumed[name]), name


def test_shared_parameters_are_one_and_stay_one(pairs_folder, tmp_path):
    trainer = tiny(pairs_folder, tmp_path, "model.share=decoder", "batch.pairs=2", "batch.pair_chunks=8")
    trainer.step()
    audio, decoder = trainer.objective.understanding.audio, trainer.objective.model.decoder
    assert audio.parallel.local.conv.weight is decoder.parallel.local.conv.weight
    assert audio.attention is not decoder.attention
    apart = tiny(pairs_folder, tmp_path / "apart", "model.audio_channels=12")
    n, m = (sum(p.numel() for p in t.objective.parameters() if p.requires_grad) for t in (trainer, apart))
    assert n < m


def test_what_contrast_is_on_must_be_known(pairs_folder, tmp_path):
    with pytest.raises(ConfigError, match='"words": it must be "tokens" or "cls"'):
        tiny(pairs_folder, tmp_path, "objective.contrast_on=words")


def test_a_run_on_pairs_that_was_stopped_goes_the_same_way(pairs_folder, tmp_path):
    small = ("batch.pairs=2", "batch.pair_chunks=8")
    stopped = tiny(pairs_folder, tmp_path, *small)
    stopped.step()
    stopped.save()
    resumed = tiny(pairs_folder, tmp_path, *small)
    assert resumed.resume()
    assert resumed.step() == stopped.step(), "the one that was not stopped"
    values = resumed.objective.state_dict()  # and the step after this one would be the same
    for name, value in stopped.objective.state_dict().items():
        assert torch.equal(value, values[name]), name


@pytest.mark.slow
def test_two_processes_go_the_way_of_one(pairs_folder, tmp_path):
    command = ["-m", "miao", "train", "tiny", "--data", str(pairs_folder), "--set", "train.steps=4", "-o"]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    for name, before in (("one", []), ("two", launcher)):
        ran = subprocess.run([sys.executable, *before, *command, str(tmp_path / name)], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-3000:]
    one, two = ([json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
                for name in ("one", "two"))  # fmt: skip
    for name in ("loss/am", "loss/mac", "loss/mam"):
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-3), name
