"""What training hands over: every setting to its loss or its step, contexts to chunks, windows to the queue."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_objective import made_up_pair, pairs_folder  # noqa: F401 (a fixture)
from test_training import made_up_notes

from miao.bank import tokens as tk
from miao.bank.frames import WINDOW_TOKENS, last_token
from miao.config import load_preset
from miao.training import objective as objective_file
from miao.training.batches import BatchConfig, Batches, _chances, images, pair_chunks
from miao.training.chunks import heard_in_either
from miao.training.losses import am_loss
from miao.training.objective import Objective, ObjectiveConfig, TrainBatch
from miao.training.scheme import RunConfig, miao_trainer
from miao.training.trainer import TrainConfig, learning_rate

torch.set_num_threads(1)  # sums of several threads are not the same each time

# streams that nobody reads to the end leave their shard open until they are collected
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

N_PAIRS = 4
RUN = load_preset(
    RunConfig, "tiny", ("batch.pairs=4", "batch.lanes=1", "batch.chunks=[8, 8, 8]", "batch.pair_chunks=8")
)
ROUNDING = 1e-5  # of losses near 1 in single precision: sums of some thousand numbers


@pytest.fixture(scope="module")
def batches():
    """Two batches of pairs, all random numbers drawn."""
    return made_up_batches(N_PAIRS)


@pytest.fixture(scope="module")
def small_batches():
    """The same of two pairs."""
    return made_up_batches(2)


def made_up_batches(n_pairs):
    made = []
    for number in range(2):
        pairs = [made_up_pair(10 * number + n) for n in range(n_pairs)]
        rng = np.random.default_rng(number)
        lots = torch.from_numpy(rng.gumbel(size=(2, n_pairs, n_pairs)).astype(np.float32))
        chunks = pair_chunks(pairs, 8, 1.5, RUN.model.width, rng)
        made.append(TrainBatch(chunks, *images(pairs), lots))
    return made


def new_objective(**changes):
    torch.manual_seed(0)
    return Objective(replace(RUN.objective, **changes), RUN.model, "fp32")


# every setting reaches its loss


def losses_of(batches, n_steps=2, **changes):
    """The losses of so many steps, by hand: in the second the momentum encoders and the queue have a past."""
    objective = new_objective(**changes)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.05)
    totals = []
    for step, batch in enumerate(batches[:n_steps]):
        with torch.set_grad_enabled(step + 1 < n_steps):
            loss = objective(batch, 5 + step)["loss/total"]
        totals.append(loss.item())
        if step + 1 < n_steps:
            loss.backward()
            optimizer.step()
            objective.after_step()
    return totals


OBJECTIVE_CHANGES = {
    "am": 0.5, "mac": 0.5, "mam": 0.5, "audio_encoder": False, "label_smoothing": 0.0, "smoothing_form": "uniform",
    "temperature": 0.14, "contrast_on": "cls", "contrast_width": 8, "momentum": 0.5, "soft_share": 0.0,
    "soft_ramp_steps": 40, "queue": 0,
}  # fmt: skip


def test_all_settings_of_the_objective_are_tried():
    assert OBJECTIVE_CHANGES.keys() == {f.name for f in fields(ObjectiveConfig)}


@pytest.fixture(scope="module")
def plain_losses(small_batches):
    return losses_of(small_batches)


@pytest.mark.parametrize("name", OBJECTIVE_CHANGES)
def test_every_setting_of_the_objective_reaches_the_loss(small_batches, plain_losses, name):
    needs_a_past = name in ("momentum", "queue")  # anything else counts from the first step on
    changed = losses_of(small_batches, 2 if needs_a_past else 1, **{name: OBJECTIVE_CHANGES[name]})
    assert abs(changed[-1] - plain_losses[len(changed) - 1]) > 10 * ROUNDING
    assert not needs_a_past or changed[0] == plain_losses[0]


def test_the_loss_of_the_decoder_is_smoothed_as_set_over_cells_that_are_heard_in_either(batches):
    objective, batch = new_objective(label_smoothing=0.3), replace(batches[0], frames=None, mel=None, lots=None)
    loss = objective(batch, 0)["loss/am"].item()
    outputs = objective.predict(batch.chunks)
    by_hand = {
        is_either: np.mean([
            am_loss(out, b.target, heard_in_either(b, out.mean) if is_either else b.weight, 0.3, "neighbours").item()
            for out, b in zip(outputs, batch.chunks, strict=True)
        ])
        for is_either in (True, False)
    }  # fmt: skip
    assert loss == pytest.approx(by_hand[True], rel=ROUNDING)
    assert abs(loss - by_hand[False]) > 1e-3


# contexts


def test_a_chunk_is_decoded_with_the_encoders_word_on_the_moment_before_it(batches, monkeypatch):
    objective, handed = new_objective(), []
    start = objective.model.decoder.start

    def watched(kind, inputs, *rest, **more):
        handed.append(inputs)
        return start(kind, inputs, *rest, **more)

    monkeypatch.setattr(objective.model.decoder, "start", watched)
    objective(batches[0], 0)
    contexts = objective.model.encoder(batches[0].frames).context().detach()  # [P, L, D]
    assert len(handed) == len(batches[0].chunks) == 2
    n_with = 0
    for inputs, chunk in zip(handed, batches[0].chunks, strict=True):
        for context, place in zip(inputs.context.detach(), chunk.place.tolist(), strict=True):
            window, token = divmod(place - 1, WINDOW_TOKENS)
            wanted = contexts[window, token] if place else torch.zeros(RUN.model.width)
            torch.testing.assert_close(context, wanted)
            n_with += bool(place)
    assert n_with > 10


@pytest.mark.parametrize("kind", [tk.ATTACK, tk.RELEASE])
def test_the_place_of_a_chunk_is_the_last_token_that_ended_before_it(kind):
    pair = made_up_pair(0)
    batches = pair_chunks([pair], 500, 0.0, 24, np.random.default_rng(0))
    (batch,) = (b for b in batches if b.kind == kind)
    moments = {}  # by pitch and age: when the chunk starts
    for note in pair.notes:
        for age in np.unique(batch.inputs.age):
            moments.setdefault((float(note["pitch"]), float(age)), []).append(note["start"] + float(age))
    for pitch, age, index, place in zip(
        batch.inputs.pitch.tolist(),
        batch.inputs.age.tolist(),
        batch.inputs.index.tolist(),
        batch.place.tolist(),
        strict=True,
    ):
        # all but an attack and the beginning of a release are heard from the last token before them on
        lead = tk.STEP_SECONDS[kind] if index else 0.0
        wanted = [last_token(m - lead) for m in moments[pitch, age]]
        assert place - 1 in wanted or (place == 0 and any(not 0 <= t < WINDOW_TOKENS for t in wanted))
    assert (batch.place > 0).any()


# negatives, queue, momentum


@torch.no_grad()
def test_hard_negatives_are_the_most_alike_of_the_others_sounds_for_notes_and_notes_for_sounds(batches, monkeypatch):
    objective = new_objective()
    net, batch = objective.understanding, replace(batches[0], lots=torch.zeros(2, N_PAIRS, N_PAIRS))
    for head in (net.midi_head, net.audio_head):  # so that windows differ clearly
        torch.nn.init.normal_(head[-1].weight)
    midi, audio = objective.model.encoder(batch.frames), net.audio.features(batch.mel)
    alike = net.embed_midi(midi).flatten(1) @ net.embed_audio(audio).flatten(1).T  # [MIDI, sound]
    alike.fill_diagonal_(-torch.inf)
    assert not torch.equal(alike.argmax(1), alike.argmax(0)), "else it would not show which way round they are"
    asked = []
    monkeypatch.setattr(
        net, "match_logits", lambda sound, notes: asked.append((sound, notes)) or torch.zeros(3 * N_PAIRS)
    )
    objective(batch, 0)
    ((sound, notes),) = asked
    own = torch.arange(N_PAIRS)
    which_sound, which_notes = torch.cat([own, alike.argmax(1), own]), torch.cat([own, own, alike.argmax(0)])
    torch.testing.assert_close(sound.tokens, audio.tokens[which_sound])
    torch.testing.assert_close(sound.data_s, audio.data_s[which_sound])
    torch.testing.assert_close(notes.tokens, midi.tokens[which_notes])
    torch.testing.assert_close(notes.cls, midi.cls[which_notes])


@torch.no_grad()
def test_lots_decide_where_likeness_does_not(batches, monkeypatch):
    objective, lots = new_objective(), torch.zeros(2, N_PAIRS, N_PAIRS)
    lots[0, :, 2] = lots[1, :, 1] = 1e4  # more than any likeness over the temperature
    net, asked = objective.understanding, []
    audio = net.audio.features(batches[0].mel)
    monkeypatch.setattr(net, "match_logits", lambda sound, notes: asked.append(sound) or torch.zeros(3 * N_PAIRS))
    objective(replace(batches[0], lots=lots), 0)
    wrong = asked[0].tokens[N_PAIRS : 2 * N_PAIRS]
    for n in (0, 1, 3):
        torch.testing.assert_close(wrong[n], audio.tokens[2])


def test_the_queue_holds_the_newest_windows_of_the_momentum_encoders_and_they_are_negatives(batches, monkeypatch):
    objective = new_objective(queue=6)
    with torch.no_grad():  # the nets have gone on, the momentum encoders have not followed yet
        objective.understanding.audio_head[-1].weight.mul_(torch.rand(RUN.model.width))
    seen = []
    monkeypatch.setattr(objective_file, "mac_loss", lambda similarity, partner, temperature, **soft: (
        seen.append((similarity.detach(), partner, temperature, soft)) or similarity.sum() * 0))  # fmt: skip
    vectors = []
    for batch in (batches[0], batches[1], batches[0]):
        with torch.no_grad():
            old = objective.old_understanding
            vectors.insert(0, (old.embed_midi(objective.old_encoder(batch.frames)).flatten(1),
                               old.embed_audio(old.audio.features(batch.mel)).flatten(1)))  # fmt: skip
        objective(batch, 1)
        midi, audio = (torch.cat([v[i] for v in vectors])[:6] for i in range(2))
        torch.testing.assert_close(objective.midi_queue, midi)
        torch.testing.assert_close(objective.audio_queue, audio)
    assert [s.shape for s, *_ in seen] == [(4, 4)] * 2 + [(4, 8)] * 2 + [(4, 10)] * 2
    similarity, partner, temperature, _ = seen[-2]  # MIDI with sounds
    with torch.no_grad():
        mine = objective.understanding.embed_midi(objective.model.encoder(batches[0].frames)).flatten(1)
        candidates = torch.cat([vectors[0][1], torch.cat([v[1] for v in vectors[1:]])[:6]])
    torch.testing.assert_close(similarity, mine @ candidates.T)
    assert partner.tolist() == [0, 1, 2, 3] and temperature == RUN.objective.temperature


def test_the_targets_soften_up_to_their_share_with_what_the_momentum_encoders_find_alike(batches, monkeypatch):
    objective = new_objective(soft_share=0.4, soft_ramp_steps=20)
    with torch.no_grad():  # the nets have gone on, the momentum encoders have not followed yet
        objective.understanding.midi_head[-1].weight.mul_(torch.rand(RUN.model.width))
        objective.understanding.audio_head[-1].weight.mul_(torch.rand(RUN.model.width))
    seen = []
    monkeypatch.setattr(objective_file, "mac_loss", lambda similarity, partner, temperature, **soft: (
        seen.append(soft) or similarity.sum() * 0))  # fmt: skip
    for step in (0, 5, 20, 1000):
        objective(batches[0], step)
    assert [soft["soft_share"] for soft in seen[::2]] == pytest.approx([0, 0.1, 0.4, 0.4])
    with torch.no_grad():
        old = objective.old_understanding
        midi = old.embed_midi(objective.old_encoder(batches[0].frames)).flatten(1)
        audio = old.embed_audio(old.audio.features(batches[0].mel)).flatten(1)
    torch.testing.assert_close(seen[0]["soft_similarity"], midi @ audio.T)
    torch.testing.assert_close(seen[1]["soft_similarity"], audio @ midi.T)


def test_the_momentum_encoders_follow_by_their_share_and_learn_nothing_else():
    objective = new_objective(momentum=0.75)
    pairs = [(objective.old_encoder, objective.model.encoder), (objective.old_understanding, objective.understanding)]
    with torch.no_grad():
        for _, new in pairs:
            for p in new.parameters():
                p.add_(1.0)
    before = [[p.clone() for p in old.parameters()] for old, _ in pairs]
    objective.after_step()
    for (old, _), was in zip(pairs, before, strict=True):
        assert not any(p.requires_grad for p in old.parameters())
        for p, q in zip(old.parameters(), was, strict=True):
            torch.testing.assert_close(p, q + 0.25)


# every setting reaches the step


def trainer_with(folder, **changes):
    train = replace(RUN.train, **{"ramp_up_steps": 1} | changes)
    return miao_trainer(replace(RUN, train=train), folder, notes=made_up_notes())


def run_of(folder, **changes):
    """What a run of two steps leaves: losses, average, how often it was saved."""
    trainer, saved, losses = trainer_with(folder, **{"steps": 2} | changes), [], []
    step, trainer.save = trainer.step, lambda: None  # that it saves is tested elsewhere; it takes half of the time
    trainer.step = lambda: losses.append(step()["loss/am"]) or {"loss/am": losses[-1]}
    trainer.fit(lambda *_: None, lambda folder: saved.append(trainer.step_number))
    return losses, saved, {name: value.double().sum().item() for name, value in trainer.average.items()}


TRAIN_CHANGES = {
    "steps": 3, "accumulate": 2, "learning_rate": 1e-3, "weight_decay": 0.5, "ramp_up_steps": 2, "rollout_every": 1,
    "precision": "bf16", "average_decay": 0.05, "max_grad_norm": 0.01, "checkpoint_every": 1, "seed": 1,
}  # fmt: skip


def test_all_settings_of_training_are_tried():
    assert TRAIN_CHANGES.keys() == {f.name for f in fields(TrainConfig)}


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", TRAIN_CHANGES)
def test_every_setting_of_training_reaches_the_run(plain_run, tmp_path, name):
    losses, saved, average = run_of(tmp_path, **{name: TRAIN_CHANGES[name]})
    if name == "checkpoint_every":
        assert (plain_run[1], saved) == ([2], [1, 2])
    elif name == "average_decay":
        assert losses == plain_run[0] and average != plain_run[2]
    elif name == "steps":
        assert losses[:2] == plain_run[0] and len(losses) == 3 and saved == [3]
    else:
        assert losses != plain_run[0]


def test_gradients_are_clipped_to_their_greatest_norm(tmp_path):
    norms = {}
    for limit in (1e9, 0.01):
        trainer = trainer_with(tmp_path, max_grad_norm=limit)
        step, norms[limit] = trainer.optimizer.step, []

        def watched(*, step=step, trainer=trainer, found=norms[limit]):
            gradients = [p.grad.norm() for p in trainer.objective.parameters() if p.grad is not None]
            found.append(torch.stack(gradients).norm().item())
            return step()

        trainer.optimizer.step = watched
        trainer.step()
    assert norms[1e9][0] > 0.1
    assert norms[0.01][0] == pytest.approx(0.01, rel=1e-4)  # torch adds 1e-6 to the norm it divides by


def test_what_is_saved_is_the_moving_average_and_what_goes_on_is_not(tmp_path):
    trainer = trainer_with(tmp_path, average_decay=0.15)
    name = "model.decoder.voices"
    name = next(k for k in trainer.average if k.startswith(name))
    expected, decays = trainer.average[name].clone(), []
    for step in range(3):
        trainer.step()
        decays.append(min(0.15, (1 + step) / (10 + step)))  # a young average forgets the beginning faster
        expected = decays[-1] * expected + (1 - decays[-1]) * trainer.objective.state_dict()[name]
    assert decays[0] == 0.1 and decays[2] == 0.15
    trainer.save()
    saved = load_file(tmp_path / "model.safetensors")[name.removeprefix("model.")]
    torch.testing.assert_close(saved, expected)
    going_on = load_file(tmp_path / "training.safetensors")[f"objective/{name}"]
    assert torch.equal(going_on, trainer.objective.state_dict()[name]) and not torch.equal(going_on, saved)


def test_weights_that_are_looked_up_and_vectors_are_not_drawn_to_zero(tmp_path):
    trainer = trainer_with(tmp_path, weight_decay=0.3)
    decayed, others = trainer.optimizer.param_groups
    named = dict(trainer.objective.named_parameters())
    tables = ("model.decoder.voices", "model.decoder.keep", "model.decoder.profiles")
    wanted = {n for n, p in named.items() if p.ndim > 1 and not n.startswith(tables) and p.requires_grad}
    assert {id(p) for p in decayed["params"]} == {id(named[n]) for n in wanted}
    assert decayed["weight_decay"] == 0.3 and others["weight_decay"] == 0
    assert len(decayed["params"]) + len(others["params"]) == sum(p.requires_grad for p in named.values())


def test_the_learning_rate_is_a_ramp_and_then_half_a_cosine_down_to_a_hundredth():
    config = TrainConfig(steps=110, ramp_up_steps=10, learning_rate=2.0)
    found = [learning_rate(step, config) for step in (0, 4, 9, 10, 60, 110, 500)]
    assert found == pytest.approx([0.2, 1.0, 2.0, 2.0, 2 * (0.01 + 0.99 / 2), 0.02, 0.02])


def test_every_step_takes_the_rate_of_its_number(tmp_path):
    trainer = trainer_with(tmp_path)
    for step in range(3):
        trainer.step()
        rates = {group["lr"] for group in trainer.optimizer.param_groups}
        assert rates == {learning_rate(step, trainer.config.train)}


# every setting reaches the batch


def batch_with(pairs_folder, with_own=False, **changes):  # noqa: F811
    config = replace(RUN.batch, **{"lanes": 2} | changes)
    batches = Batches(config, RUN.model.width, range(config.lanes), notes=made_up_notes(), pairs=pairs_folder / "train")
    if with_own:
        batches.own = [np.full((len(table.note), tk.N_CELLS), 7, np.float32) for table in batches.tables]
    return batches.draw()


def as_lists(batch):
    return [
        [part.kind, part.target.tolist(), part.inputs.previous.tolist()] for part in batch.chunks
    ], batch.mel.tolist()


BATCH_CHANGES = {
    "chunks": (8, 16, 8), "pairs": 8, "pair_chunks": 16, "lanes": 4, "previous_noise_levels": 0.0, "colour_db": 6.0,
    "context": False, "own_share": 0.9, "seed": 1,
}  # fmt: skip


def test_all_settings_of_a_batch_are_tried():
    assert BATCH_CHANGES.keys() == {f.name for f in fields(BatchConfig)}


@pytest.mark.parametrize("name", BATCH_CHANGES)
def test_every_setting_of_a_batch_reaches_it(pairs_folder, name):  # noqa: F811
    plain, changed = (batch_with(pairs_folder, True, **change) for change in ({}, {name: BATCH_CHANGES[name]}))
    if name == "context":
        assert any(part.place.any() for part in plain.chunks) and not any(part.place.any() for part in changed.chunks)
        return
    assert as_lists(plain) != as_lists(changed)
    more = [len(b.target) - len(a.target) for a, b in zip(plain.chunks, changed.chunks, strict=True)]
    if name in ("chunks", "pair_chunks"):  # the notes of pairs are too short for chunks of sustain
        assert more == ([0, 8, 0] if name == "chunks" else [8, 0, 8])
    if name == "colour_db":
        assert as_lists(plain)[0] == as_lists(changed)[0]
    if name == "previous_noise_levels":
        assert torch.equal(plain.mel, changed.mel)


def test_half_of_later_chunks_set_out_from_the_nets_own_token(pairs_folder):  # noqa: F811
    chunks = batch_with(pairs_folder, True, chunks=(400, 400, 400), pair_chunks=0).chunks
    shares = [(part.inputs.previous == 7).all(dim=1).float().mean().item() for part in chunks]
    assert shares[tk.ATTACK] == 0
    deviation = np.sqrt(0.25 / 400)  # of the share of heads in 400 tosses
    assert all(abs(shares[kind] - 0.5) < 4 * deviation for kind in (tk.SUSTAIN, tk.RELEASE))


def test_a_voice_of_four_times_the_notes_is_drawn_twice_as_often_and_late_chunks_less():
    table = SimpleNamespace(voice=np.array([0, 0, 0, 0, 1]), note=np.arange(5), index=np.zeros(5, int))
    np.testing.assert_allclose(_chances(table), np.array([1, 2, 3, 4, 6]) / 6)
    long = SimpleNamespace(voice=np.zeros(2, int), note=np.zeros(2, int), index=np.arange(2))
    np.testing.assert_allclose(_chances(long), [2 / 3, 1])
