"""The paper's tables and its Figure 2 on material made up on the spot."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from test_datasets import MAKE
from test_evaluate import NearSystem, built, root  # noqa: F401 (fixtures)
from test_objective import pairs_folder  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from miao.bank.frames import CHANNELS, N_PITCHES, SEGMENT_TOKENS, WINDOW_FRAMES, WINDOW_TOKENS
from miao.bank.matching import segment_cosines
from miao.cli.main import app
from miao.config import load_preset
from miao.errors import ConfigError, DataError
from miao.evaluation import distances
from miao.evaluation.benchmarks import build, load_benchmark, load_sound
from miao.evaluation.evaluate import Listeners, new_run, perform
from miao.evaluation.systems import MiaoSystem, NoiseSystem, SilenceSystem, SineSystem, Sound
from miao.nets.layers import CausalSelfAttention
from miao.nets.model import MidiEncoder, ModelConfig
from miao.reproduction import figure as figure_module
from miao.reproduction import runs as runs_module
from miao.reproduction.cells import Entry, _cell, _of_sets, compare
from miao.reproduction.figure import sweep_rows
from miao.reproduction.paper import FIGURE2, FURTHER, TABLE2, TABLE3, Sweep, printed
from miao.reproduction.peers import named_runs, peer_systems
from miao.reproduction.report import evaluation, table
from miao.reproduction.runs import Recipe, wilson
from miao.sound.spectrum import N_MELS, SAMPLE_RATE
from miao.training.objective import Understanding
from miao.training.scheme import RunConfig

torch.set_num_threads(1)

# streams that nobody reads to the end leave their shard open until they are collected
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DEAF = Listeners()
SMALL = ModelConfig(width=24, voice_width=16, hidden=48, decoder_channels=12, audio_channels=8)


@pytest.fixture(scope="module")
def deaf():
    """Nothing is transcribed and embedded, and little is measured, as both would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "HELD_OUT", 8)
        patch.setattr(Listeners, "found", staticmethod(lambda embedders: (DEAF, ["nobody listens"])))
        yield


def reproduce(what, output, *options):
    return CliRunner().invoke(app, ["reproduce", what, "-o", str(output), "-j", "1", *map(str, options)])


def training(what, pairs, data, output, *options):
    small = ("--pairs", pairs, "--data", data, "--preset", "tiny", "--steps", 2, "--batch", 8, "--limit", 1)
    return reproduce(what, output, *small, *options)


@pytest.fixture(scope="module")
def output(pairs_folder, built, deaf, tmp_path_factory):  # noqa: F811
    """A folder in which Table 2 has been done."""
    folder = tmp_path_factory.mktemp("reproduced")
    ran = training("table2", pairs_folder, built, folder)
    assert ran.exit_code == 0, ran.output
    return folder


# the settings a and f


def encoded(frames, **changes):
    torch.manual_seed(0)
    with torch.no_grad():
        return MidiEncoder(replace(SMALL, **changes)).eval()(frames)


@pytest.fixture(scope="module")
def frames():
    return torch.rand(1, len(CHANNELS), WINDOW_FRAMES, N_PITCHES, generator=torch.Generator().manual_seed(1))


def test_the_default_is_attention_to_all_that_was_and_a_context_by_segments_of_32(frames):
    attention = CausalSelfAttention(20, 24, 3, WINDOW_TOKENS, SMALL.n_segments * SMALL.segment_tokens)
    assert attention.mask is None and "mask" not in attention.state_dict()
    encoding = encoded(frames)
    before = torch.cat([torch.zeros(1, 1, 24), encoding.cls[:, :-1]], dim=1)
    by_hand = encoding.tokens + before.repeat_interleave(SEGMENT_TOKENS, dim=1)
    assert torch.equal(encoding.context(), by_hand)


@pytest.mark.parametrize("a", [16, 64])
def test_a_says_how_many_tokens_share_a_cls(frames, a):
    encoding = encoded(frames, segment_tokens=a, n_segments=WINDOW_TOKENS // a)
    assert encoding.cls.shape == (1, WINDOW_TOKENS // a, 24)
    assert torch.equal(encoding.tokens, encoded(frames).tokens)  # which sees as far
    difference = encoding.context() - encoding.tokens
    assert not difference[:, :a].any()
    torch.testing.assert_close(difference[:, a : 2 * a], encoding.cls[:, :1].expand(-1, a, -1))


def test_f_says_how_many_segments_back_a_token_looks(frames):
    torch.manual_seed(0)
    attention = CausalSelfAttention(20, 24, 3, WINDOW_TOKENS, 2 * 32)
    x = torch.randn(1, WINDOW_TOKENS, 20)
    changed = x.clone()
    changed[:, 10] += 1
    with torch.no_grad():
        reached = (attention(x) - attention(changed)).abs().amax(dim=(0, 2)) > 1e-7
    assert reached.nonzero().flatten().tolist() == list(range(10, 10 + 64))
    assert not torch.equal(encoded(frames, n_segments=2).tokens[:, 100:], encoded(frames).tokens[:, 100:])


@pytest.mark.parametrize("a", [16, 64])
def test_the_audio_encoder_has_as_many_cls_as_the_midi_encoder(frames, a):
    config = replace(SMALL, segment_tokens=a)
    net = Understanding(config, "cls", 16).eval()
    with torch.no_grad():
        midi, audio = encoded(frames, segment_tokens=a), net.audio.features(torch.rand(1, 512, N_MELS) * -60)
        assert midi.cls.shape == audio.cls.shape
        assert net.match_logits(audio, midi).shape == (1,)
    alike = segment_cosines(net.embed_midi(midi).detach().numpy(), net.embed_audio(audio).detach().numpy())
    assert alike.shape == (1, 8)


@pytest.mark.parametrize("change, what", [
    ("segment_tokens=24", "divide 256"), ("segment_tokens=1", "2 to 256"), ("n_segments=0", "1 or more"),
    ("n_heads=5", '"model.n_heads", 5'),
])  # fmt: skip
def test_sizes_that_do_not_go_together_are_refused(change, what):
    with pytest.raises(ConfigError, match=what):
        load_preset(RunConfig, "tiny", (f"model.{change}",))


# rows


def test_rows_are_what_the_paper_has_and_each_is_a_preset_that_loads():
    recipe = Recipe("pairs", "folder", 10)
    rows = [*TABLE2, *TABLE3, *FURTHER, *(row for s in FIGURE2 for row in s.rows(recipe.default(s.key)).values())]
    slugs = {row.slug: recipe.config(row, 0) for row in rows}
    assert len({repr(config) for config in slugs.values()}) == len(slugs), "a training has one folder"
    assert recipe.config(TABLE3[1], 0).objective.audio_encoder is False
    assert printed((0.28, None)) == ".28 / misprinted"


def test_all_sweeps_share_the_run_of_the_defaults():
    sweeps = sweep_rows(Recipe("pairs", "folder", 10))
    assert [rows[v].slug for rows, v in zip(sweeps.values(), (16, 3, 32, 8), strict=True)] == 4 * ["default"]
    assert len({row.slug for rows in sweeps.values() for row in rows.values()}) == 1 + 2 + 4 + 2 + 2
    assert list(sweep_rows(Recipe("pairs", "folder", 10), ["heads"])) == ["heads h"]


def test_wilsons_interval_is_as_printed_in_tables():
    assert wilson(0.5, 10) == pytest.approx([0.2366, 0.7634], abs=1e-3)
    assert wilson(0.0, 10) == pytest.approx([0.0, 0.2775], abs=1e-3)


# cells


@dataclass(frozen=True)
class FarSystem:
    """The reference under noise, louder by name."""

    level: float
    is_floor: bool = False

    @property
    def name(self):
        return f"far:{self.level}"

    @property
    def checksum(self):
        return str(self.level)

    def play(self, piece):
        noise = self.level * np.random.default_rng(0).standard_normal(piece.reference.mix.shape).astype(np.float32)
        return Sound(piece.reference.mix + noise, None)


@pytest.fixture(scope="module")
def heard(built, tmp_path_factory):  # noqa: F811
    systems = [NearSystem(), FarSystem(0.01), FarSystem(0.1), SilenceSystem(), NoiseSystem(), SineSystem()]
    run = new_run(systems, load_benchmark(built), DEAF, tmp_path_factory.mktemp("heard"))
    list(perform(run))
    return run


def entries_with(ours):
    names = ("near", "far:0.01", "far:0.1")
    return [*(Entry(n, (n,), is_ours=n == ours) for n in names), Entry("silence", ("silence",), plays=False),
            Entry("reference", ("reference",), plays=False)]  # fmt: skip


def log_mel(heard, entries):
    return next(c for c in compare(heard, entries, list(heard.benchmark.pieces)) if c.metric.key == "log_mel_db")


def test_a_cell_in_which_ours_is_not_the_best_is_marked_and_said_in_words(heard):
    entries = entries_with("far:0.01")
    one = log_mel(heard, entries)
    (behind,) = one.behind
    assert (behind.ours, behind.best) == ("far:0.01", "near")
    expected = one.cells["far:0.01"].value - one.cells["near"].value
    assert behind.worse_by[0] == pytest.approx(expected) and behind.worse_by[1] > 0
    lines, _ = evaluation(heard, entries, of_systems=True)
    (row,) = [line for line in lines if line.startswith("| far:0.01 |")][:1]
    assert "†" in row
    assert any(line.startswith("- †") and "behind near" in line for line in lines)


def test_nothing_is_marked_where_ours_is_the_best_and_floors_and_ceilings_are_no_rivals(heard):
    entries = entries_with("near")
    assert not log_mel(heard, entries).behind
    lines, _ = evaluation(heard, entries, of_systems=True)
    assert not any("†" in line for line in lines)
    assert any("no cell of ours is behind" in line for line in lines)


def test_several_seeds_are_one_row_with_their_spread(heard):
    both = Entry("far", ("far:0.01", "far:0.1"))
    cell = log_mel(heard, [both, *entries_with("")]).cells["far"]
    assert cell.value == pytest.approx(np.mean(cell.seeds))
    assert cell.spread == pytest.approx((max(cell.seeds) - min(cell.seeds)) / 2) and cell.spread > 0
    assert cell.low <= cell.value <= cell.high
    lines = table([both], [log_mel(heard, [both])])
    assert "±" in lines[-1] and "[" in lines[-1]


def test_the_papers_figures_stand_in_a_column_of_their_own(heard):
    entries = [Entry("miao:near", ("near",), is_ours=True), Entry("midi2wave:run", ("far:0.1",))]
    manifest = replace(heard, benchmark=replace(heard.benchmark, name="maestro"))
    lines, data = evaluation(manifest, entries, of_systems=True)
    assert any("paper: MT3 / RED / FAD / SC / PCE" in line for line in lines)
    assert any(line.startswith("| miao:near |") and "MAESTRO: .35 / 2.16 / .28 / .93 / 2.82" in line for line in lines)
    assert any(line.startswith("| midi2wave:run |") and "MAESTRO: .19 / 3.38" in line for line in lines)
    assert data["maestro"]["paper"] == "MAESTRO"


def test_the_interval_of_a_frechet_distance_is_wider_for_fewer_pieces():
    random = np.random.default_rng(0)
    widths = []
    for n in (10, 40):
        reference = {f"p{i}": random.standard_normal((40, 4)) for i in range(n)}
        ours = {name: x + random.standard_normal((1, 4)) for name, x in reference.items()}
        sets = {"reference": reference, "x": ours}
        cell = _cell(_of_sets(sets, Entry("x", ("x",)), set(reference), distances.frechet_distance))
        assert cell.low < cell.value < cell.high
        widths.append(cell.high - cell.low)
    assert widths[1] < widths[0]


# the commands


@pytest.mark.slow
def test_table2_trains_plays_measures_and_does_nothing_twice(pairs_folder, built, output, monkeypatch):  # noqa: F811
    text = (output / "reproduce-table2.md").read_text()
    assert "| conv (Eq. 5-6) |" in text and "| feed-forward |" in text and "Cerberus4: .31 / 1.86" in text
    report = json.loads((output / "reproduce-table2.json").read_text())
    cells = report["benchmarks"]["recordings"]["recordings"]["metrics"]["log_mel_db"]["cells"]
    assert set(cells) == {"conv (Eq. 5-6)", "feed-forward", "reference"}
    assert report["held_out"]["feed-forward"]["error_db/all"]["value"] > 0
    assert (output / "banks" / "default-0" / "encoder.onnx").is_file(), "the bank is to hear what is around a note"
    monkeypatch.setattr(runs_module, "_train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(MiaoSystem, "play", lambda *_: pytest.fail("played again"))
    assert training("table2", pairs_folder, built, output).exit_code == 0
    assert (output / "reproduce-table2.md").read_text() == text


@pytest.mark.slow
def test_table3_shares_the_default_run_and_only_takes_some_rows(pairs_folder, built, output):  # noqa: F811
    ran = training("table3", pairs_folder, built, output, "--only", "full", "--only", "audio encoder")
    assert ran.exit_code == 0, ran.output
    assert "1 of 2" not in ran.output and "2 of 2" in ran.output, "the full scheme is there from Table 2"
    held_out = json.loads((output / "reproduce-table3.json").read_text())["held_out"]
    assert "recall@1" in held_out["full scheme"] and "recall@1" not in held_out["without audio encoder"]


@pytest.mark.slow
def test_a_stopped_training_goes_on(pairs_folder, built, output):  # noqa: F811
    banks = output / "banks" / "default-0"
    (output / "runs" / "default-0" / "held_out.json").unlink()
    before = (banks / "attack.onnx").read_bytes()
    assert training("table2", pairs_folder, built, output).exit_code == 0
    assert (banks / "attack.onnx").read_bytes() == before, "it had all its steps"


@pytest.mark.slow
def test_figure2_draws_its_pictures(pairs_folder, built, output, monkeypatch):  # noqa: F811
    monkeypatch.setattr(figure_module, "FIGURE2", (Sweep("inputs f", "model.n_segments", (2, 8)),))
    ran = training("figure2", pairs_folder, built, output, "--only", "inputs")
    assert ran.exit_code == 0, ran.output
    for name in ("figure2-recordings.png", "figure2-held-out-pairs.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
    text = (output / "reproduce-figure2.md").read_text()
    assert "| 8 (default) |" in text and "| 2 |" in text and "![recordings](figure2-recordings.png)" in text
    points = json.loads((output / "reproduce-figure2.json").read_text())["pictures"]["recordings"]
    assert [p["value"] for p in points["log-mel error dB ↓"]["inputs f"]] == [2, 8]


def test_table1_sets_systems_side_by_side(built, deaf, tmp_path):  # noqa: F811
    ran = reproduce("table1", tmp_path, "--data", built, "--bank", "gm", "--limit", 1)
    assert ran.exit_code == 0, ran.output
    text = (tmp_path / "reproduce-table1.md").read_text()
    for name in ("miao:gm", "encoded", "silence", "noise", "sine", "reference"):
        assert f"| {name} |" in text
    assert "URMP: .31 / 3.26" in text and "never the same quantity" in text
    assert "give its run by --peer midi2wave=RUN" in text


# mistakes


def test_mistakes_are_one_line(pairs_folder, built, deaf, tmp_path):  # noqa: F811
    output = tmp_path / "reproduced"
    wrong = [
        (training("table2", tmp_path, built, output), "no pairs-*.tar"),
        (training("table2", pairs_folder, tmp_path, output), "miao data benchmark"),
        (training("table3", pairs_folder, built, output, "--only", "harp"), "no row is called harp"),
        (training("figure2", pairs_folder, built, output, "--only", "harp"), "no sweep is called harp"),
        (training("table2", pairs_folder, built, output, "--preset", "harp"), 'no preset "harp"'),
        (training("table2", pairs_folder, built, output, "--data", built), "recordings is there twice"),
        (reproduce("table1", output, "--data", built, "--peer", "harp=here"), "no such peer"),
        (reproduce("table1", output, "--data", built, "--only", "harp"), "no system is called harp"),
        (reproduce("table1", output, "--data", built, "--peer", f"mi-ddpm={tmp_path}"), "miao train mi-ddpm --data"),
    ]
    for ran, what in wrong:
        assert (ran.exit_code, what in ran.output, ran.output.count("\n")) == (2, True, 1), ran.output


def test_a_folder_with_other_settings_is_not_gone_on_with(pairs_folder, built, deaf, tmp_path, monkeypatch):  # noqa: F811
    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "miao_trainer", lambda *_, **__: _stopped())
        assert "stopped as it began" in training("table2", pairs_folder, built, tmp_path).output
    ran = training("table2", pairs_folder, built, tmp_path, "--batch", "16")
    assert ran.exit_code == 2 and "batch.pairs 8, not 16; give another --output" in ran.output


def _stopped():
    raise DataError("stopped as it began")


def test_runs_of_peers_are_named(tmp_path):
    (tmp_path / "config.toml").write_text("")
    assert named_runs([f"midi-ddsp={tmp_path}"]) == {"midi-ddsp": tmp_path}
    runs = {"mi-ddpm": tmp_path / "c", "midi2wave": tmp_path / "b", "midi-ddsp": tmp_path / "a"}
    expected = [f"midi2wave:{runs['midi2wave']}", f"midi-ddsp:{runs['midi-ddsp']}", f"mi-ddpm:{runs['mi-ddpm']}"]
    assert peer_systems(runs) == [*expected, f"inverter:{tmp_path / 'inverter'}"]
    assert peer_systems({"midi-ddsp": tmp_path}) == [f"midi-ddsp:{tmp_path}"]
    with pytest.raises(DataError, match="miao train midi2wave --data PAIRS"):
        named_runs([f"midi2wave={tmp_path / 'none'}"])


# data sets as benchmarks


@pytest.mark.parametrize("name", sorted(MAKE.keys() - {"cerberus4"}))  # whose miniature has no test split
def test_the_test_split_of_a_data_set_is_a_benchmark(name, tmp_path):
    MAKE[name](tmp_path / "root")
    list(build(name, tmp_path / "made", [tmp_path / "root"], None, seconds=2.0))
    made = load_benchmark(tmp_path / "made")
    assert made.name == name and made.source is None and made.manifest["made_of"][0]["licence"]
    for piece in made.pieces:
        score, mix, stems = load_sound(made.folder, piece)
        assert piece.group == name and mix.shape[1] <= 2 * SAMPLE_RATE
        assert stems is None or len(stems) == len(score.tracks)
        first = min(int(track.notes["start"].min() * SAMPLE_RATE) for track in score.tracks)
        assert np.abs(mix[:, first : first + 4410]).max() > 10 * np.abs(mix[:, : max(first - 2205, 1)]).max()


def test_a_data_set_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"maestro: nothing to make it of.*say where by --root"):
        list(build("maestro", tmp_path / "made", [], None))
    with pytest.raises(DataError, match="maestro-v3"):
        list(build("maestro", tmp_path / "made", [tmp_path], None))
    MAKE["cerberus4"](tmp_path / "root")
    with pytest.raises(DataError, match="nothing of the split test of cerberus4"):
        list(build("cerberus4", tmp_path / "made", [tmp_path / "root"], None))
