"""Embedders know sounds whose answer is known, and say what they need when it is not there."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from golden.regenerate import chirp

from miao.errors import DataError
from miao.evaluation import embedders, musicnn
from miao.sound.audio import read_audio

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
YAMNET = DATA / "models" / "yamnet.tflite"
RATE = embedders.SAMPLE_RATE
GOLDEN = json.loads((Path(__file__).parent / "golden" / "librosa.json").read_text())
TAGS = {"drums": 5, "beat": 11, "piano": 9, "violin": 12, "techno": 3, "strings": 4}  # of MagnaTagATune, by number

needs_musicnn = pytest.mark.skipif(
    importlib.util.find_spec("musicnn") is None, reason="musicnn is not installed (pip install --no-deps musicnn)"
)
needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed (extra `evaluate`)"
)


def plucked(seconds):
    """An arpeggio of harmonic tones whose upper partials die first, as a piano's do."""
    out = np.zeros(round(seconds * RATE))
    for i, onset in enumerate(np.arange(0, seconds, 0.3)):
        first = round(onset * RATE)
        t = np.arange(min(round(0.9 * RATE), len(out) - first)) / RATE
        hz = 440 * 2 ** (([0, 4, 7, 12, 7, 4][i % 6] - 9) / 12)
        out[first : first + len(t)] += 0.2 * sum(
            np.sin(2 * np.pi * k * hz * t) / k**1.6 * np.exp(-t * (2 + k)) for k in range(1, 8)
        )
    return out


def bowed(seconds):
    """One steady tone with vibrato and many partials."""
    t = np.arange(round(seconds * RATE)) / RATE
    return 0.2 * sum(np.sin(2 * np.pi * k * 440 * t + 0.6 * k * np.sin(2 * np.pi * 5.5 * t)) / k for k in range(1, 12))


def beaten(seconds):
    """Low thumps and bursts of noise in time."""
    random = np.random.default_rng(0)
    out = np.zeros(round(seconds * RATE))
    for i, onset in enumerate(np.arange(0, seconds, 0.125)):
        first = round(onset * RATE)
        t = np.arange(min(2000, len(out) - first)) / RATE
        burst = 0.05 * np.exp(-60 * t) + 0.3 * (i % 4 == 2) * np.exp(-20 * t)
        thump = 0.8 * (i % 4 == 0) * np.sin(2 * np.pi * 60 * t + 6 * np.exp(-30 * t)) * np.exp(-12 * t)
        out[first : first + len(t)] += thump + burst * random.standard_normal(len(t))
    return out


# windows


def test_windows_lie_wholly_inside_and_a_short_sound_makes_one():
    values = np.arange(10)
    np.testing.assert_array_equal(embedders.windows(values, 4, 3), [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]])
    np.testing.assert_array_equal(embedders.windows(values, 4, 4), [[0, 1, 2, 3], [4, 5, 6, 7]])
    np.testing.assert_array_equal(embedders.windows(values[:2], 4, 4), [[0, 1, 0, 0]])
    assert embedders.windows(np.ones((2, 3)), 4, 4).shape == (1, 4, 3)


def test_an_embedder_hears_the_mean_of_the_channels_at_its_own_rate():
    heard = []
    embedder = embedders.Embedder("ear", RATE, lambda mono: heard.append(mono) or np.zeros((1, 1), np.float32))
    t = np.arange(48_000) / 48_000
    embedder(np.stack([np.sin(2 * np.pi * 440 * t), 0 * t]), 48_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert heard[0].shape == (RATE,)
    np.testing.assert_allclose(heard[0][500:-500], expected[500:-500], atol=1e-3)


# VGGish and TRILL: graphs made on the spot


def write_graph(path, nodes, shape, constants, outputs):
    from onnx import TensorProto, checker, helper, numpy_helper, save

    values = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(
        [helper.make_node(*node[:-1], **node[-1]) for node in nodes],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["?"] * rank) for n, rank in outputs.items()],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    save(model, path)
    return path


@pytest.mark.parametrize("shape", [["n", 96, 64], ["n", 1, 96, 64], ["n", 96, 64, 1], [1, 96, 64]])
def test_vggish_is_given_its_own_log_mel_patches(tmp_path, shape):
    pytest.importorskip("onnx")
    weights = np.random.default_rng(0).standard_normal((96 * 64, 128)).astype(np.float32)
    nodes = [("Reshape", ["x", "flat"], ["row"], {}), ("MatMul", ["row", "w"], ["y"], {})]
    path = write_graph(tmp_path / "v.onnx", nodes, shape, {"flat": np.array([-1, 96 * 64]), "w": weights}, {"y": 2})
    found = embedders.vggish(path)(plucked(2.0)[None], RATE)
    patches = [embedders.vggish_patch(plucked(2.0)[i : i + 15_600].astype(np.float32)) for i in (0, 15_360)]
    np.testing.assert_allclose(found, [p.ravel() @ weights for p in patches], rtol=1e-4, atol=1e-2)


def test_vggish_patches_follow_the_release_sum_by_sum():
    sound = plucked(0.975).astype(np.float32)
    patch = embedders.vggish_patch(sound)
    assert patch.shape == (96, 64)
    mel = np.vectorize(lambda hz: 1127 * np.log(1 + hz / 700))
    edges = np.linspace(mel(125), mel(7500), 66)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for frame, band in ((0, 0), (20, 3), (40, 20), (95, 63)):
        magnitude = np.abs(np.fft.rfft(sound[160 * frame : 160 * frame + 400] * window, 512))
        total = 0.0
        for b in range(1, 257):
            m = mel(b * RATE / 512)
            rising = (m - edges[band]) / (edges[band + 1] - edges[band])
            falling = (edges[band + 2] - m) / (edges[band + 2] - edges[band + 1])
            total += magnitude[b] * max(0.0, min(rising, falling))
        assert patch[frame, band] == pytest.approx(np.log(total + 0.01), abs=1e-4)


@pytest.mark.parametrize(("shape", "n"), [([1, "s"], 1), (["s"], 1), ([1, 16_000], 2)])
def test_trill_hears_the_whole_sound_or_what_its_graph_takes(tmp_path, shape, n):
    """A graph whose 512 numbers are all the highest sample that it is given; another output is not meant."""
    pytest.importorskip("onnx")
    nodes = [
        ("Reshape", ["x", "flat"], ["row"], {}),
        ("ReduceMax", ["row"], ["other"], {"axes": [1], "keepdims": 1}),
        ("MatMul", ["other", "ones"], ["y"], {}),
    ]
    path = write_graph(
        tmp_path / "t.onnx", nodes, shape, {"flat": np.array([1, -1]), "ones": np.ones((1, 512), np.float32)},
        {"other": 2, "y": 2},
    )  # fmt: skip
    sound = np.zeros(40_000)
    sound[[100, 20_000, 39_000]] = 0.25, 0.5, 0.75
    found = embedders.trill(path)(sound[None], RATE)
    np.testing.assert_allclose(found, np.repeat([[0.75]] if n == 1 else [[0.25], [0.5]], 512, axis=1))


def test_graphs_of_another_kind_are_named(tmp_path):
    pytest.importorskip("onnx")
    path = write_graph(tmp_path / "n.onnx", [("Identity", ["x"], ["y"], {})], ["n", 96, 64], {}, {"y": 3})
    with pytest.raises(DataError, match=r"n\.onnx: has outputs of shape \[1, 96, 64\]; none is 128 numbers wide"):
        embedders.vggish(path)(np.zeros((1, RATE)), RATE)
    fixed = write_graph(tmp_path / "f.onnx", [("Identity", ["x"], ["y"], {})], [1, 7, 9], {}, {"y": 3})
    with pytest.raises(DataError, match=r"f\.onnx: takes \[1, 7, 9\], not \[15600\] numbers"):
        embedders.vggish(fixed)(np.zeros((1, RATE)), RATE)


@pytest.mark.parametrize("make", [embedders.vggish, embedders.trill])
def test_weights_that_are_not_there_are_asked_for(tmp_path, make):
    with pytest.raises(DataError, match=r"gone\.onnx: there is no such .* weights are not fetched"):
        make(tmp_path / "gone.onnx")
    with pytest.raises(DataError, match=r"gone\.tflite: there is no such .* weights are not fetched"):
        make(tmp_path / "gone.tflite")
    (tmp_path / "weights.ckpt").write_bytes(b"weights")
    with pytest.raises(DataError, match=r"weights\.ckpt: there is no such \.onnx or \.tflite file"):
        make(tmp_path / "weights.ckpt")
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(DataError, match=r"bad\.onnx: onnxruntime cannot read it"):
        make(tmp_path / "bad.onnx")


@needs_litert
def test_a_file_that_is_no_tflite_is_named(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"not a graph" * 100)
    with pytest.raises(DataError, match=r"bad\.tflite: not a \.tflite file"):
        embedders.yamnet(tmp_path / "bad.tflite")
    with pytest.raises(DataError, match=r"there is no such \.tflite file"):
        embedders.yamnet(tmp_path / "gone.tflite")


# musicnn


def test_musicnns_filters_and_log_mel_are_librosas():
    np.testing.assert_allclose(musicnn.slaney_filters().sum(axis=1), GOLDEN["filter_sums"], atol=1e-7)
    found = musicnn.log_mel(chirp(RATE).astype(np.float32))
    for band, expected in GOLDEN["log_mel"].items():
        np.testing.assert_allclose(found[:, int(band)], expected, atol=1e-4)


def test_a_missing_musicnn_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install --no-deps musicnn==0\.1\.0"):
        embedders.musicnn()


def test_a_checkpoint_that_is_none_is_named(tmp_path):
    for name in (".index", ".data-00000-of-00001"):
        (tmp_path / name).write_bytes(bytes(100))
    with pytest.raises(DataError, match="not the index of a TensorFlow checkpoint"):
        musicnn.read_checkpoint(tmp_path)


def musicnn_tensors():
    folder = importlib.util.find_spec("musicnn").submodule_search_locations[0]
    return musicnn.read_checkpoint(Path(folder) / "MTT_musicnn")


def test_musicnns_net_is_the_one_that_its_authors_describe():
    """Written once more with torch's convolutions, on random weights."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    random = np.random.default_rng(0)
    kernels = [(7, 38, 204), (7, 67, 204), (128, 1, 51), (64, 1, 51), (32, 1, 51), *[(7, w, 64) for w in (561, 64, 64)]]
    tensors = {}
    for n, (height, width, depth) in enumerate(kernels):
        name = f"conv2d_{n}" if n else "conv2d"
        tensors[f"{name}/kernel"] = random.normal(0, (height * width) ** -0.5, (height, width, 1, depth))
        tensors[f"{name}/bias"] = random.normal(0, 0.3, depth)
    tensors["dense/kernel"], tensors["dense/bias"] = random.normal(0, 0.03, (1506, 200)), random.normal(0, 0.3, 200)
    for n, width in enumerate([1, *[depth for *_, depth in kernels], 1506, 200]):
        for part, low in (("beta", -1), ("gamma", -1), ("moving_mean", -1), ("moving_variance", 0.01)):
            name = f"batch_normalization_{n}/{part}" if n else f"batch_normalization/{part}"
            tensors[name] = random.uniform(low, 1, width)
    t = {k: torch.tensor(v) for k, v in tensors.items()}

    def norm(n, x, axis=1):
        name = f"batch_normalization_{n}" if n else "batch_normalization"
        x = x.movedim(axis, 1)
        parts = [t[f"{name}/{k}"] for k in ("moving_mean", "moving_variance", "gamma", "beta")]
        return functional.batch_norm(x, *parts, eps=1e-3).movedim(1, axis)

    def conv(n, x):
        """As long as before, with TensorFlow's padding: of an odd number of rows the greater part comes after."""
        name = f"conv2d_{n}" if n else "conv2d"
        kernel, bias = t[f"{name}/kernel"].permute(3, 2, 0, 1), t[f"{name}/bias"]
        missing = kernel.shape[2] - 1
        padded = functional.pad(x, (0, 0, missing // 2, missing - missing // 2))
        return norm(n + 1, torch.relu(functional.conv2d(padded, kernel, bias)))

    patch = random.uniform(0, 4, (musicnn.PATCH_FRAMES, 96))
    x = norm(0, torch.tensor(patch)[None, None])  # [1, 1, T, 96]
    layers = [torch.cat([conv(n, x).amax(dim=3) for n in range(5)], dim=1)]  # [1, 561, T]
    for n in (5, 6, 7):
        out = conv(n, layers[-1].transpose(1, 2)[:, None])[..., 0]
        layers.append(out + layers[-1] if n > 5 else out)
    features = torch.cat(layers, dim=1)
    pooled = torch.stack([features.amax(dim=2), features.mean(dim=2)], dim=2).flatten(1)
    expected = norm(10, torch.relu(norm(9, pooled) @ t["dense/kernel"] + t["dense/bias"]))[0]
    np.testing.assert_allclose(musicnn.penultimate(tensors, patch), expected.numpy(), rtol=1e-6, atol=1e-6)


@needs_musicnn
def test_musicnns_checkpoint_is_read_whole():
    """The numbers that its authors give: 0.79 million parameters; variances are positive."""
    tensors = {k: v for k, v in musicnn_tensors().items() if "Adam" not in k and not k.startswith("beta")}
    assert sum(v.size for v in tensors.values()) == pytest.approx(0.79e6, rel=0.01)
    assert tensors["dense/kernel"].shape == (1506, 200)
    assert all((v > 0).all() for k, v in tensors.items() if k.endswith("moving_variance"))
    assert all(np.isfinite(v).all() for v in tensors.values())


def tag_chances(embeddings):
    tensors = musicnn_tensors()
    return 1 / (1 + np.exp(-(embeddings @ tensors["dense_1/kernel"] + tensors["dense_1/bias"]).mean(axis=0)))


@needs_musicnn
@pytest.mark.parametrize(("make", "tag", "others"), [
    (plucked, "piano", ("violin", "drums", "techno")),
    (bowed, "violin", ("piano", "drums", "techno")),
    (beaten, "beat", ("violin", "piano", "strings")),
])  # fmt: skip
def test_musicnns_tags_of_made_sounds_are_right(make, tag, others):
    """Its last layer, put on the embedding, names what is heard: the embedding is the layer that it is said to be."""
    embedder = embedders.musicnn()
    found = embedder(make(6.0)[None], RATE)
    assert found.shape == (3, 200)
    assert embedder.name == "musicnn-mtt"
    chances = tag_chances(found)
    assert chances[TAGS[tag]] > 0.2
    assert all(chances[TAGS[tag]] > 3 * chances[TAGS[other]] for other in others)


@needs_musicnn
def test_musicnn_makes_one_frame_of_a_short_sound():
    assert embedders.musicnn("MSD")(np.zeros((2, 100)), 44_100).shape == (1, 200)


@needs_musicnn
def test_musicnn_hears_a_clip_beyond_its_first_window():
    quiet = np.zeros((1, 5 * RATE), np.float32)
    late = np.where(np.arange(5 * RATE) > 4 * RATE, np.sin(np.arange(5 * RATE) / 5), 0)
    heard = [embedders.musicnn()(sound, RATE) for sound in (quiet, late[None].astype(np.float32))]
    assert [len(rows) for rows in heard] == [2, 2]
    np.testing.assert_array_equal(heard[0][0], heard[1][0])
    assert np.abs(heard[0][1] - heard[1][1]).max() > 0.1


RECORDINGS = {
    "piano": "piano/*.flac", "violin": "violin/**/*.[mo]p[3u]*", "drums": "drums/**/*.flac"
}  # fmt: skip
needs_data = pytest.mark.skipif(not YAMNET.is_file(), reason="the shared recordings and YAMNet's file are not here")


def excerpts(kind, n=2, seconds=6.0):
    """The first seconds of the first recordings of a kind."""
    paths = sorted((DATA / "recordings").glob(RECORDINGS[kind]))[:n]
    assert len(paths) == n
    for path in paths:
        audio = read_audio(path)
        yield audio.samples[:, : round(seconds * audio.sample_rate)], audio.sample_rate


@pytest.mark.data
@needs_data
@needs_musicnn
@pytest.mark.parametrize(("kind", "tag"), [("piano", 9), ("violin", 12), ("drums", 5)])
def test_musicnn_tags_real_instruments(kind, tag):
    embedder = embedders.musicnn()
    chances = [tag_chances(embedder(*e)) for e in excerpts(kind)]
    rivals = {9, 12, 5} - {tag}
    assert all(c[tag] > max(c[r] for r in rivals) for c in chances)


def yamnets_own():
    """From the file itself: its class scores of a window of sound, and its last layer, as functions."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = Interpreter(
        str(YAMNET), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    plain.allocate_tensors()
    details = plain.get_tensor_details()
    dense = next(d for d in details if d["shape"].tolist() == [521, 1024])
    weights = plain.get_tensor(dense["index"]) * dense["quantization_parameters"]["scales"][:, None]
    bias = next(plain.get_tensor(d["index"]) for d in details if d["shape"].tolist() == [521])

    def scores(window):
        plain.set_tensor(plain.get_input_details()[0]["index"], window[None])
        plain.invoke()
        outputs = [plain.get_tensor(d["index"]) for d in plain.get_output_details()]
        return next(o[0] for o in outputs if o.shape == (1, 521))

    return scores, lambda embeddings: 0.5 + 0.5 * np.tanh((embeddings @ weights.T + bias) / 2)


@pytest.mark.data
@needs_data
@needs_litert
def test_yamnets_embedding_is_the_layer_before_its_classes():
    """Its own last layer, put on what we read, gives its own scores. Of silence they say silence (class 494)."""
    scores, last_layer = yamnets_own()
    sounds = [np.zeros(15_600, np.float32), *(make(0.975).astype(np.float32) for make in (plucked, bowed, beaten))]
    for window in sounds:
        found = last_layer(embedders.yamnet(YAMNET)(window[None], RATE)[0])
        expected = scores(window + embedders.yamnet_noise())
        np.testing.assert_allclose(found, expected, atol=0.02)  # that layer rounds its input to 8 bits
        assert np.argmax(found) == np.argmax(expected)
    assert np.argmax(scores(sounds[0])) == 494


@pytest.mark.data
@needs_data
@needs_litert
@pytest.mark.parametrize("kind", ["violin", "drums"])
def test_yamnets_classes_of_real_instruments_are_right(kind):
    """Violin or fiddle, drum kit; of the piano far from the microphones YAMNet itself is not sure."""
    _, last_layer = yamnets_own()
    classes = {"piano": 148, "violin": 186, "drums": 156}
    for sound in excerpts(kind):
        scores = last_layer(embedders.yamnet(YAMNET)(*sound)).mean(axis=0)
        assert max(classes, key=lambda name: scores[classes[name]]) == kind


@pytest.mark.data
@needs_data
@needs_litert
def test_yamnets_numbers_of_silence_are_no_larger_than_those_of_sound():
    embedder = embedders.yamnet(YAMNET)
    sizes = [np.linalg.norm(embedder(level * plucked(1.0)[None], RATE)[0]) for level in (0, 1e-4, 1)]
    assert max(sizes[:2]) < 1.5 * sizes[2]


@pytest.mark.data
@needs_data
@needs_litert
def test_yamnet_gives_a_frame_every_048_seconds():
    embedder = embedders.yamnet(YAMNET)
    assert embedder.name == "yamnet"
    assert embedder(np.zeros((2, 44_100 * 2)), 44_100).shape == (3, 1024)  # at 0, 0.48 and 0.96 s
    assert embedder(np.zeros((1, 10)), RATE).shape == (1, 1024)
    later = np.pad(plucked(1.0), (7_680, 0))
    np.testing.assert_allclose(embedder(later[None], RATE)[1], embedder(plucked(1.0)[None], RATE)[0], atol=1e-5)
