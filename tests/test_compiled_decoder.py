import numpy as np
import pytest

from miao.bank import graph
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.folder import bank_folder, open_graph
from miao.bank.nets import KIND_NAMES, OnnxNets

pytestmark = pytest.mark.skipif(not graph.variants(), reason="nothing could be compiled")
WIDTH, CONTEXT = 128, 96


def path_of(kind):
    return bank_folder("gm") / f"{kind}.onnx"


def inputs_of(kind, n, seed=0):
    random = np.random.default_rng(seed)
    inputs = {
        "embedding": random.normal(0, 0.3, (n, WIDTH)), "profile": random.normal(0, 1, (n, tk.N_CELLS)),
        "pitch": random.uniform(0, 127, n), "velocity": random.uniform(0, 1, n), "age": random.uniform(0, 30, n),
        "context": random.normal(0, 1, (n, CONTEXT)),
    }  # fmt: skip
    if kind != "attack":
        inputs["previous"] = random.uniform(0, 63, (n, tk.N_CELLS)) * (random.random((n, tk.N_CELLS)) < 0.7)
    found = {name: values.astype(np.float32) for name, values in inputs.items()}
    return found | {"index": random.integers(0, tk.MAX_CHUNK_INDEX + 1, n)}


@pytest.fixture(scope="module", params=KIND_NAMES)
def both(request):
    """The kind of a chunk, and ONNX Runtime's graph of it."""
    return request.param, open_graph(path_of(request.param))


@pytest.mark.parametrize("variant", graph.variants())
@pytest.mark.parametrize("n", [1, 7, 9, 33])
def test_every_compiled_graph_gives_what_onnx_runtime_gives(both, variant, n):
    kind, oracle = both
    inputs = inputs_of(kind, n, seed=n)
    inputs["velocity"][0] = 0  # the lowest there is, and all that lies about
    levels, spread = graph.compiled(path_of(kind), WIDTH, CONTEXT, variant).run(None, inputs)
    wanted_levels, wanted_spread = oracle.run(None, inputs)
    assert levels.shape == spread.shape == (n, tk.CHUNK_STEPS, tk.N_CELLS)
    assert np.abs(levels - wanted_levels).max() < 5e-4  # of 64 levels, 1.75 dB each
    assert np.abs(spread / wanted_spread - 1).max() < 1e-4
    assert (levels == 0).any() and levels.max() <= tk.N_LEVELS - 1


def test_a_chunk_is_the_same_whatever_is_written_beside_it(both):
    kind, _ = both
    own, inputs = graph.compiled(path_of(kind), WIDTH, CONTEXT), inputs_of(kind, 21)
    levels, _ = own.run(None, inputs)
    for cut in (slice(0, 1), slice(3, 13), slice(20, 21)):
        assert np.array_equal(own.run(None, {name: values[cut] for name, values in inputs.items()})[0], levels[cut])


@pytest.mark.parametrize("is_compiled", [True, False])
def test_halves_of_a_batch_on_two_threads_are_the_whole(monkeypatch, is_compiled):
    if not is_compiled:
        monkeypatch.setattr(graph, "_nets", None)
    inputs = inputs_of("release", 70)
    one, two = (OnnxNets(bank_folder("gm"), WIDTH, CONTEXT, False, n_threads) for n_threads in (1, 2))
    for ours, theirs in zip(two.write(tk.RELEASE, inputs), one.write(tk.RELEASE, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0 if is_compiled else 1e-4, atol=0 if is_compiled else 1e-3)


def test_the_bank_of_the_wheel_needs_no_onnx_runtime(monkeypatch):
    monkeypatch.setattr("miao.bank.nets.open_graph", None)
    bank = Bank.load("gm")
    assert len(bank.nets._graphs) == len(KIND_NAMES)


def test_where_nothing_is_compiled_the_graphs_go_to_onnx_runtime(monkeypatch):
    monkeypatch.setattr(graph, "_nets", None)
    nets = OnnxNets(bank_folder("gm"), WIDTH, CONTEXT, False, 1)
    assert not any(isinstance(one, graph.CompiledGraph) for one in nets._graphs)


def test_only_graphs_of_the_known_form_and_size_are_run_compiled(tmp_path):
    good = path_of("release").read_bytes()
    assert graph.compiled(path_of("release"), WIDTH, CONTEXT) is not None
    assert graph.compiled(path_of("release"), WIDTH, CONTEXT + 1) is None
    path = tmp_path / "release.onnx"
    at = good.index(b"LayerNormalization")
    renamed, another = good.replace(b"decoder.head.bias", b"decoder.head.byas"), path_of("attack").read_bytes()
    changed = good[:at] + b"LayerNormalisation" + good[at + 18 :]
    for strange in (changed, renamed, another, good[: len(good) // 2], b"", b"\xff" * 100):
        path.write_bytes(strange)
        assert graph.compiled(path, WIDTH, CONTEXT) is None
    assert graph.compiled(tmp_path / "attack.onnx", WIDTH, CONTEXT) is None


def test_what_does_not_fit_is_refused(both):
    kind, _ = both
    own, inputs = graph.compiled(path_of(kind), WIDTH, CONTEXT), inputs_of(kind, 3)
    for name, wrong in (
        ("index", np.array([0, 16, 0])), ("index", np.array([0, -1, 0])), ("age", inputs["age"][:2]),
        ("context", inputs["context"][:, 1:]), ("pitch", inputs["pitch"].astype(np.float64)),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            own.run(None, inputs | {name: wrong})
