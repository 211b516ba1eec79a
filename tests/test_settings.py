"""Settings: what is wrong in a word, a type or a range is one line that names the setting and what it may be."""

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest

from miao.config import Range, check, from_table, load_preset, preset_table, to_toml
from miao.errors import ConfigError
from miao.synth.settings import PlaySettings

pytest.importorskip("torch")

from miao.datasets.bank_pairs import PairSettings
from miao.peers.trained import KINDS, peer_of
from miao.training.learn import LearnConfig
from miao.training.scheme import RunConfig

PEER_GROUPS = {f"{name}.model": kind.config for name, kind in KINDS.items()}
GROUPS = {
    **{f.name: f.type for f in fields(RunConfig)},
    **PEER_GROUPS, "peer.batch": {f.name: f.type for f in fields(KINDS["inverter"].run_config())}["batch"],
    "learn": LearnConfig, "pairs": PairSettings,
}  # fmt: skip
FREE_TEXT = {"peer.name"}  # is looked up, not chosen from
FIELDS = [
    pytest.param(kind, name, hint, id=f"{group}.{name}")
    for group, kind in GROUPS.items()
    for name, hint in get_type_hints(kind, include_extras=True).items()
]


def limits(hint):
    return [x for x in get_args(hint)[1:] if isinstance(x, Range)] if get_origin(hint) is Annotated else []


def wrong(hint):
    """Values that a field must not take."""
    if get_origin(hint) is Literal:
        return ["conf", "", get_args(hint)[0].upper(), 1, None]
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        n = 3 if inner[-1] is ... else len(inner)
        found = ["text", 3, None, *((value,) * n for value in wrong(inner[0]))]
        return found if inner[-1] is ... else [*found, (1,) * (n + 1), (1,) * (n - 1), ()]
    if get_origin(hint) is Annotated:
        (limit,) = limits(hint)
        kind = get_args(hint)[0]
        step = 1 if kind is int else 0.01
        beyond = [limit.low - step] if limit.low else [-step]
        beyond += [] if limit.high == math.inf else [limit.high + step]
        return [*beyond, *wrong(kind)]
    if hint is bool:
        return [1, 0.0, "yes", None]
    if hint is int:
        return ["1", 1.5, True, None, math.nan]
    if hint is float:
        return ["1", True, None, math.nan, math.inf]
    raise AssertionError(f"a setting of kind {hint}")


@pytest.mark.parametrize("kind, name, hint", FIELDS)
def test_every_setting_says_what_it_may_be(kind, name, hint):
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    assert hint is bool or get_origin(hint) is Literal or len(limits(hint)) == 1, "no words and no range"


@pytest.mark.parametrize("kind, name, hint", FIELDS)
def test_a_wrong_value_is_refused_from_a_file_and_by_hand(kind, name, hint):
    for value in wrong(hint):
        for make in (lambda v: from_table(kind, {name: v}, "group."), lambda v: kind(**{name: v})):
            with pytest.raises(ConfigError) as refused:
                make(value)
            said = str(refused.value)
            assert f'{name}" is ' in said and ": it must be " in said and "\n" not in said
            if get_origin(hint) is Literal:
                assert all(f'"{word}"' in said for word in get_args(hint))


@pytest.mark.parametrize("kind, name, hint", FIELDS)
def test_bounds_are_allowed_and_whole_numbers_where_numbers_are(kind, name, hint):
    for limit in limits(hint):
        number = get_args(hint)[0]
        checked = dataclass_of(name, hint)
        for value in (limit.low, limit.high):
            if value < math.inf:
                check(checked(number(value)))
        if number is float and limit.high >= 1:
            assert type(getattr(from_table(checked, {name: 1}), name)) is float


def dataclass_of(name, hint):
    return dataclass(type("One", (), {"__annotations__": {name: hint}}))


@pytest.mark.parametrize("group, setting, said", [
    ("model", "decoder", '"model.decoder" is "conf": it must be "conv" or "ffn"'),
    ("train", "precision", '"train.precision" is "fp8": it must be "fp32" or "bf16"'),
    ("train", "steps", '"train.steps" is 0: it must be a whole number, 1 or more'),
    ("objective", "soft_share", '"objective.soft_share" is 1.5: it must be a number, 0 to 1'),
    ("objective", "audio_encoder", '"objective.audio_encoder" is 1: it must be true or false'),
    ("batch", "chunks", '"batch.chunks" is (1, 2): it must be a list, 3 values, each a whole number, 0 or more'),
])  # fmt: skip
def test_what_is_said_names_the_setting_the_value_and_the_choices(group, setting, said):
    value = {"decoder": "conf", "precision": "fp8", "steps": 0, "soft_share": 1.5, "audio_encoder": 1,
             "chunks": [1, 2]}[setting]  # fmt: skip
    with pytest.raises(ConfigError) as refused:
        from_table(RunConfig, {group: {setting: value}})
    assert str(refused.value) == said


@pytest.mark.parametrize("change, said", [
    ("model.decoder=conf", 'it must be "conv" or "ffn"'),
    ("model=3", '"model" is a group of settings, got 3'),
    ("train.steps.more=3", '"steps" is not a group of settings'),
    ("train", "a change is written group.setting=value"),
    ("huge.width=3", '"huge" is not a setting; there are batch, model, objective, train'),
    ("model.n_heads=5", 'it must be a multiple of "model.n_heads", 5'),
    ("model.encoder_channels=11", "it must be a multiple of the 5 channels of x_m"),
])  # fmt: skip
def test_a_wrong_change_of_a_preset_is_one_line(change, said):
    with pytest.raises(ConfigError) as refused:
        load_preset(RunConfig, "tiny", (change,))
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["midi2wave", "mi-ddpm"])
def test_the_peers_sizes_go_together(name):
    with pytest.raises(ConfigError, match=r'"model.width" is 193: it must be a multiple of "model.n_heads"'):
        KINDS[name].config(width=193)


@pytest.mark.parametrize("content, said", [
    (b"[model\n", "not TOML"),
    (b"[model]\nwidth = \xff\n", "not TOML"),
    (b"model = 3\n", '"model" is a group of settings, got 3'),
    (b"[model]\nwidht = 3\n", '"model.widht" is not a setting; there are audio_channels, '),
    (b"[train]\nprecision = 'fp8'\n", '"train.precision" is "fp8": it must be "fp32" or "bf16"'),
    (b"[peer]\nname = 'wavenet'\n", 'there is no peer "wavenet"; there are inverter, '),
    (b"peer = 3\n", 'there is no peer "3"'),
])  # fmt: skip
def test_a_damaged_preset_is_one_line(tmp_path, content, said):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        assert peer_of(str(path)) is None
        load_preset(RunConfig, str(path))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_refuses_wrong_settings_before_it_reads_any_data(tmp_path):
    from typer.testing import CliRunner

    from miao.cli.main import app

    for words, said in (
        (["tiny", "--set", "model.decoder=conf"], '"model.decoder" is "conf": it must be "conv" or "ffn"'),
        (["midi2wave", "--set", "train.precision=fp8"], '"train.precision" is "fp8": it must be "fp32" or "bf16"'),
        (["tiny", "--accelerator", "gpu"], 'no accelerator "gpu"; there are cpu, cuda'),
    ):
        result = CliRunner().invoke(app, ["train", *words, "--data", "absent", "-o", str(tmp_path / "run")])
        assert (result.exit_code, result.stderr) == (2, f"miao: {said}\n")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gm", "tiny", "paper"])
def test_settings_are_kept_as_they_are(name):
    from dataclasses import asdict
    from tomllib import loads

    config = load_preset(RunConfig, name)
    assert from_table(RunConfig, loads(to_toml(asdict(config)))) == config
    assert all(is_dataclass(getattr(config, group)) for group in preset_table(name))


PLAYED = {  # by the documents
    "sample_rate": (8_000, 192_000), "variation": (0, 1), "loudness": (-60, -5), "gain_db": (-100, 100),
    "t60": (0.05, 20), "wet": (0, 10), "polyphony": (1, 1_048_576),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAYED)
def test_a_setting_of_playing_goes_as_far_as_it_says(name):
    low, high = PLAYED[name]
    for value in (low, high):
        assert getattr(PlaySettings(**{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigError, match=f"goes from {low} to {high}"):
            PlaySettings(**{name: value})
