"""The two nets: what they may look at, what their distributions mean."""

import numpy as np
import pytest
import torch

from miao.bank import tokens as tk
from miao.bank.frames import CHANNELS, N_PITCHES, SEGMENT_TOKENS, WINDOW_FRAMES, WINDOW_TOKENS
from miao.nets.layers import ChannelAttention, DepthwiseConv
from miao.nets.model import AudioDecoder, ChunkInputs, LevelDistribution, MidiEncoder, ModelConfig
from miao.training.losses import am_loss, level_error_db

SMALL = ModelConfig(width=24, voice_width=16, hidden=32, decoder_channels=12)


def chunk_inputs(n=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    return ChunkInputs(
        voice=torch.arange(n),
        pitch=torch.full((n,), 60.0),
        velocity=torch.full((n,), 0.7),
        index=torch.zeros(n, dtype=torch.long),
        age=torch.zeros(n),
        previous=torch.rand(n, tk.N_CELLS, generator=random) * 50,
        context=torch.zeros(n, SMALL.width),
    )


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return MidiEncoder(SMALL).eval()


def test_what_is_played_later_never_changes_an_encoder_token(encoder):
    frames = torch.rand(1, len(CHANNELS), WINDOW_FRAMES, N_PITCHES)
    later = frames.clone()
    later[:, :, 600:] = 0
    with torch.no_grad():
        a, b = encoder(frames), encoder(later)
    torch.testing.assert_close(a.tokens[:, :150], b.tokens[:, :150])
    assert not torch.allclose(a.tokens[:, 150:], b.tokens[:, 150:])


def test_context_takes_the_cls_of_the_segment_before(encoder):
    frames = torch.rand(1, len(CHANNELS), WINDOW_FRAMES, N_PITCHES)
    with torch.no_grad():
        encoding = encoder(frames)
    context = encoding.context()
    assert context.shape == (1, WINDOW_TOKENS, SMALL.width)
    torch.testing.assert_close(context[:, :SEGMENT_TOKENS], encoding.tokens[:, :SEGMENT_TOKENS])
    torch.testing.assert_close(context[:, SEGMENT_TOKENS] - encoding.tokens[:, SEGMENT_TOKENS], encoding.cls[:, 0])


def test_reducing_by_strided_steps_loses_no_note():
    """A one-frame note anywhere changes the reduced image (the reason why Eq. 1 is not one kernel at stride 4)."""
    torch.manual_seed(1)
    encoder = MidiEncoder(SMALL).eval()

    def reduced(image):
        return encoder.reduce_second(encoder.reduce_first(image))

    silent = torch.zeros(1, len(CHANNELS), 64, N_PITCHES)
    with torch.no_grad():
        nothing = reduced(silent)
        for row in range(20, 28):
            for pitch in range(60, 68):
                struck = silent.clone()
                struck[0, 0, row, pitch] = 1
                assert (reduced(struck) - nothing).abs().max() > 1e-4, (row, pitch)


def test_a_causal_convolution_looks_only_back():
    conv = DepthwiseConv(2, causal=True)
    x = torch.rand(1, 2, 10, 6)
    y = x.clone()
    y[:, :, 5:] = 0
    torch.testing.assert_close(conv(x)[:, :, :5], conv(y)[:, :, :5])


def test_channel_attention_mixes_channels_within_a_head_only():
    torch.manual_seed(0)
    attention = ChannelAttention(4, 2)
    with torch.no_grad():
        attention.project.weight.copy_(torch.cat([torch.eye(4), torch.eye(4), torch.eye(4)])[..., None, None])
        attention.project.bias.zero_()
        attention.merge.weight.copy_(torch.eye(4)[..., None, None])
        attention.merge.bias.zero_()
        x = torch.rand(1, 4, 3, 5)
        z = x.clone()
        z[:, 2:] += 1
        torch.testing.assert_close(attention(x)[:, :2], attention(z)[:, :2])


def test_probabilities_of_all_levels_sum_to_one():
    shape = (2, 3, 4)
    distribution = LevelDistribution(torch.rand(shape) * 80 - 8, torch.rand(shape) * 4 - 1)
    total = sum(distribution.log_prob(torch.full(shape, float(k))).exp() for k in range(tk.N_LEVELS))
    torch.testing.assert_close(total, torch.ones(shape), atol=tk.N_LEVELS * 1e-5, rtol=0)


def test_log_probability_stays_finite_far_from_the_mean():
    distribution = LevelDistribution(torch.tensor([5.0]), torch.tensor([-3.0]))
    value = distribution.log_prob(torch.tensor([60.0]))
    assert torch.isfinite(value) and value < -100


def share(k, mean, scale):
    """P(k) of a logistic cut at the borders between levels, the tails with the outer levels."""

    def below(x):
        return 1 / (1 + np.exp(-(x - mean) / scale))

    upper = 1.0 if k == tk.N_LEVELS - 1 else below(k + 0.5)
    return upper - (0.0 if k == 0 else below(k - 0.5))


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_am_loss_equals_cross_entropy_worked_by_hand(scale):
    distribution = LevelDistribution(torch.tensor([10.0]), torch.tensor([np.log(scale)], dtype=torch.float32))
    target, weight = torch.tensor([11.0]), torch.ones(1)
    hit = np.log(share(11, 10, scale))
    beside = 0.5 * (np.log(share(10, 10, scale)) + np.log(share(12, 10, scale)))
    loss = float(am_loss(distribution, target, weight, 0.13, "neighbours"))
    assert loss == pytest.approx(-0.87 * hit - 0.13 * beside, rel=1e-4)
    if scale == 4.0:  # where no level's share is too small for a float
        everywhere = np.mean([np.log(share(k, 10, scale)) for k in range(tk.N_LEVELS)])
        loss = float(am_loss(distribution, target, weight, 0.13, "uniform"))
        assert loss == pytest.approx(-0.87 * hit - 0.13 * everywhere, rel=1e-3)


@pytest.mark.parametrize(("level", "beside"), [(0, (0, 1)), (tk.N_LEVELS - 1, (tk.N_LEVELS - 2, tk.N_LEVELS - 1))])
def test_at_the_ends_of_the_scale_the_smoothed_share_stays_on_it(level, beside):
    distribution = LevelDistribution(torch.tensor([20.0]), torch.tensor([2.0]))
    log_prob = [float(distribution.log_prob(torch.tensor([float(k)]))) for k in (level, *beside)]
    loss = float(am_loss(distribution, torch.tensor([float(level)]), torch.ones(1), 0.2, "neighbours"))
    assert loss == pytest.approx(-0.8 * log_prob[0] - 0.1 * (log_prob[1] + log_prob[2]), rel=1e-5)


def test_cells_of_no_weight_do_not_count():
    mean = torch.full((1, 2, tk.N_CELLS), 20.0)
    distribution = LevelDistribution(mean, torch.zeros_like(mean))
    target = mean.clone()
    target[:, 1] = 50
    weight = torch.ones_like(mean)
    weight[:, 1] = 0
    assert float(level_error_db(distribution, target, weight)) == 0


@pytest.mark.parametrize("decoder", ["conv", "ffn"])
def test_the_decoder_gives_a_level_for_every_step_and_cell(decoder):
    torch.manual_seed(0)
    net = AudioDecoder(ModelConfig(width=24, voice_width=16, hidden=32, decoder_channels=12, decoder=decoder)).eval()
    for kind in (tk.ATTACK, tk.SUSTAIN, tk.RELEASE):
        out = net(kind, chunk_inputs())
        assert out.mean.shape == out.log_scale.shape == (3, tk.CHUNK_STEPS, tk.N_CELLS)
        assert out.expected().min() >= 0 and out.expected().max() <= tk.N_LEVELS - 1


def test_an_attack_does_not_depend_on_what_sounded_before():
    torch.manual_seed(0)
    net = AudioDecoder(SMALL).eval()
    a, b = chunk_inputs(seed=0), chunk_inputs(seed=1)
    torch.testing.assert_close(net(tk.ATTACK, a).mean, net(tk.ATTACK, b).mean)
    assert not torch.allclose(net(tk.SUSTAIN, a).mean, net(tk.SUSTAIN, b).mean)


def test_a_voice_between_two_pitch_nodes_lies_between_their_embeddings():
    net = AudioDecoder(SMALL)
    voice = torch.tensor([5, 5, 5])
    low, middle, high = net.voice_at(tk.ATTACK, voice, torch.tensor([60.0, 61.5, 63.0]))[0]
    torch.testing.assert_close(middle, (low + high) / 2)
