"""Banks and voices that are wrong in a word, a shape, a range or a byte: one line that names the file and the fault."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from miao.bank.arrays import checksum_of
from miao.bank.bank import Bank
from miao.bank.folder import BankConfig, bank_folder, seal
from miao.bank.learnt_voice import ARRAYS, FORMAT, LearntVoice, voice_paths
from miao.bank.voices import EMBEDDINGS, TABLE, VoiceEmbeddings, VoiceTable
from miao.cli.main import app
from miao.errors import BankError

GRAPHS = ("attack.onnx", "sustain.onnx", "release.onnx")
FILES = (*GRAPHS, "embeddings.safetensors", "voices.safetensors")
CONFIG = "format = 2\ncontext_width = 96\nuses_context = false\n"


@pytest.fixture
def folder(tmp_path):
    """The bank of the wheel, without the checksums that would notice first; links, so as to copy nothing."""
    made = tmp_path / "mine"
    made.mkdir()
    for name in FILES:
        (made / name).symlink_to(bank_folder("gm") / name)
    (made / "config.toml").write_text(CONFIG)
    return made


def replaced(path, data):
    path.unlink()
    path.write_bytes(data)


def one_line(folder, *said):
    """Loading fails with these words in one line, in Python and as a command."""
    with pytest.raises(BankError) as refused:
        Bank.load(folder, 1)
    text = str(refused.value)
    assert all(word in text for word in said), text
    assert "\n" not in text
    return text


def test_the_bank_loads_with_links_and_no_checksums(folder):
    assert Bank.load(folder, 1).context_width == 96


@pytest.mark.parametrize("config, said", [
    (b"", "bank format None, this miao reads format 2"), (b"format = 3\n", "bank format 3"),
    (b"format = 2\ncontext_width = 96\n", "does not say uses_context"),
    (b"format = 2\nuses_context = false\n", "does not say context_width"),
    (CONFIG.replace("96", "'96'").encode(), '"context_width" is "96": it must be a whole number, 1 or more'),
    (CONFIG.replace("96", "0").encode(), '"context_width" is 0: it must be a whole number, 1 or more'),
    (CONFIG.replace("false", "'no'").encode(), '"uses_context" is "no": it must be true or false'),
    (CONFIG.replace("false", "fal").encode(), "not TOML"), (CONFIG.encode() + b"\xff", "not TOML"),
    ((CONFIG + "width = 3\n").encode(), '"width" is not a setting; there are context_width, format, uses_context'),
    (CONFIG.replace("96", "64").encode(), "takes context [96]"),
    (CONFIG.replace("false", "true").encode(), "encoder.onnx: not a readable ONNX graph"),
])  # fmt: skip
def test_a_config_that_is_wrong_in_a_word(folder, config, said):
    (folder / "config.toml").write_bytes(config)
    one_line(folder, said, str(folder))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_cut_off(folder, name):
    data = (folder / name).read_bytes()
    for some in (b"", data[:1000], data[:-1]):
        replaced(folder / name, some)
        one_line(folder, name)
    (folder / name).unlink()
    one_line(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_noticed_by_the_checksum(folder, name):
    seal(folder, BankConfig(2, 96, False))
    assert Bank.load(folder, 1).table.kind.shape[0] > 128
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    replaced(folder / name, data)
    one_line(folder, name, "changed or damaged")
    (folder / name).unlink()
    one_line(folder, name, "is missing")


def test_graphs_that_are_another_ones_are_told(folder):
    replaced(folder / "attack.onnx", (bank_folder("gm") / "understanding" / "midi.onnx").read_bytes())
    one_line(folder, "attack.onnx", "takes frames [5, 1024, 128]", "known are profile [80], ")


def wrong_arrays(arrays, name, want):
    """What an array may not be: gone, of other numbers, of another shape, out of range."""
    values = arrays[name]
    yield {k: v for k, v in arrays.items() if k != name}, f"has no {name}"
    other = np.int32 if values.dtype != np.int32 else np.float32
    yield arrays | {name: values.astype(other)}, f"{name} holds {np.dtype(other)}, not {values.dtype}"
    yield arrays | {name: values[..., :-1].copy()}, " is of shape ["
    yield arrays | {name: values[None]}, f"{name} is of shape [1, "
    if values.dtype.kind == "f" and values.size:
        for strange in (np.nan, np.inf):
            changed = values.copy()
            changed.flat[-1] = strange
            yield arrays | {name: changed}, f"{name} has values from"
    for limit, step in ((want.low, -1), (want.high, 1)):
        beyond = limit + step
        is_kept = values.dtype.kind == "f" or np.iinfo(values.dtype).min <= beyond <= np.iinfo(values.dtype).max
        if np.isfinite(limit) and values.size and is_kept:
            changed = values.copy()
            changed.flat[0] = beyond
            yield arrays | {name: changed}, f"{name} has values from"


def small_table():
    """Three voices: harmonic, half harmonic, modes."""
    table = Bank.load("gm", 1).table
    modes = int(np.flatnonzero(table.mode_row == 0)[0])
    rows = [0, int(np.flatnonzero(table.kind == 1)[0]), modes]
    arrays = {name: getattr(table, name)[rows] for name in TABLE if name != "modes"}
    return VoiceTable(**arrays | {"modes": table.modes[:1], "mode_row": np.array([-1, -1, 0], np.int16)})


@pytest.mark.parametrize("name", TABLE)
def test_a_voice_table_that_is_wrong_in_any_array(tmp_path, name):
    table = small_table()
    path = tmp_path / "voices.safetensors"
    table.save(path)
    assert VoiceTable.load(path).kind.tolist() == [0, 1, 2]
    whole = {k: getattr(table, k) for k in TABLE}
    for arrays, said in wrong_arrays(whole, name, TABLE[name]):
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
        with pytest.raises(BankError) as refused:
            VoiceTable.load(path)
        assert str(path) in str(refused.value) and said in str(refused.value) and "\n" not in str(refused.value)


def test_rows_of_modes_that_are_not_there_and_arrays_that_nobody_knows(tmp_path):
    path, table = tmp_path / "voices.safetensors", small_table()
    for row in ([-1, -1, 1], [-1, -1, -1]):
        replace(table, mode_row=np.array(row, np.int16)).save(path)
        with pytest.raises(BankError, match="mode_row names rows of modes that are not there; there are 1"):
            VoiceTable.load(path)
    save_file({k: np.ascontiguousarray(getattr(table, k)) for k in TABLE} | {"colour": np.zeros(3)}, path)
    with pytest.raises(BankError, match="holds colour, which is none of kind, "):
        VoiceTable.load(path)
    table.save(path)
    folded = load_file(path)
    for name in folded:
        save_file({k: v for k, v in folded.items() if k != name}, path)
        with pytest.raises(BankError, match=r"voices\.safetensors: "):
            VoiceTable.load(path)


def test_a_table_without_free_modes_is_kept_as_it_is(tmp_path):
    table = small_table()
    harmonic = VoiceTable(**{name: getattr(table, name)[: 0 if name == "modes" else 2] for name in TABLE})
    harmonic.save(tmp_path / "voices.safetensors")
    again = VoiceTable.load(tmp_path / "voices.safetensors")
    for name in TABLE:
        np.testing.assert_array_equal(getattr(again, name), getattr(harmonic, name))


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_that_are_wrong_in_any_array(tmp_path, name):
    path = tmp_path / "embeddings.safetensors"
    whole = {"embeddings": np.zeros((3, 43, 8), np.float16), "profiles": np.zeros((3, 3, 43, 80), np.float16)}
    save_file(whole, path)
    assert VoiceEmbeddings.load(path).embeddings.shape == (3, 43, 8)
    for arrays, said in wrong_arrays(whole, name, EMBEDDINGS[name]):
        if name == "embeddings" and arrays.get(name, np.zeros(0)).shape == (3, 43, 7):
            continue  # another width of the nets, which only they know
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
        with pytest.raises(BankError) as refused:
            VoiceEmbeddings.load(path)
        assert str(path) in str(refused.value) and said in str(refused.value) and "\n" not in str(refused.value)


def test_files_of_two_banks_do_not_go_together(folder):
    bank = Bank.load("gm", 1)
    (folder / "embeddings.safetensors").unlink()
    VoiceEmbeddings(bank.embeddings.embeddings[:5], bank.embeddings.profiles[:, :5]).save(
        folder / "embeddings.safetensors"
    )
    one_line(folder, "voices.safetensors has", "embeddings.safetensors 5")
    VoiceEmbeddings(bank.embeddings.embeddings[:, :, :7], bank.embeddings.profiles).save(
        folder / "embeddings.safetensors"
    )
    one_line(folder, "attack.onnx: takes embedding [128]")


def test_a_damaged_bank_is_one_line_of_the_command_and_exit_code_2(folder, tmp_path):
    replaced(folder / "sustain.onnx", (folder / "sustain.onnx").read_bytes()[:5000])
    (tmp_path / "song.mid").write_bytes((bank_folder("gm").parents[3] / "examples" / "gymnopedie.mid").read_bytes())
    result = CliRunner().invoke(app, ["render", str(tmp_path / "song.mid"), "--bank", str(folder)])
    last = result.stderr.splitlines()[-1]
    assert result.exit_code == 2 and last.startswith(f"miao: {folder / 'sustain.onnx'}: not a readable ONNX graph")
    assert not (tmp_path / "song.wav").exists()


# voices


@pytest.fixture(scope="module")
def voice():
    return LearntVoice.load(next(iter(voice_paths(bank_folder("gm")).values())))


def written(path, arrays, about, seal=False):
    about = {k: v for k, v in about.items() if k != "checksum"}
    if seal:
        about["checksum"] = checksum_of(arrays, about)
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, about)


_MAY_LACK = "shift.keys", "gains.levels", "course.offsets", "surface.falls", "waver.sets_in"


def parts_that_a_voice_may_have(width):
    """All optional parts, of nothing: two recorded notes of two chunks each, two keys, a kit."""
    sizes = {"notes": 2, "firsts": 3, "held": 2, "let go": 2, "keys": 2, "V": 1, "W": width}
    sizes |= {"strengths": 2, "layers": 2, "keys of it": 4, "its nodes": 2, "its knots": 25}
    sizes |= {"wavering": 2, "its steps": 3, "rows": 2}
    optional = {name: want for name, want in ARRAYS.items() if want.is_optional}
    made = {
        name: np.full([sizes.get(n, n) for n in want.shape], max(want.low, 0), want.dtype)
        for name, want in optional.items()
    }
    for name in ("recorded.first_held", "recorded.first_release"):
        made[name] += np.arange(3, dtype=made[name].dtype)
    for name in ("keys.n_keys", "sides.n_keys"):
        made[name] += np.uint8(2)
    for name in ("surface.strengths", "surface.layers"):
        made[name] += np.array([0, 0.5], np.float32)
    made["waver.pitches"] += np.array([0, 1], np.uint8)
    made["waver.sets_in"] += np.array([0, 0.1], np.float32)
    return made


def saved(voice, path):
    voice.save(path)
    return load_file(path) | parts_that_a_voice_may_have(voice.embeddings.embeddings.shape[2]), {
        **voice.about,
        "format": FORMAT,
        "middle_velocity": "0.5",
        "release_seconds": "inf",
    }


@pytest.mark.parametrize("name", ARRAYS)
def test_a_voice_that_is_wrong_in_any_array(voice, tmp_path, name):
    path = tmp_path / "mine.safetensors"
    whole, about = saved(voice, path)
    written(path, whole, about)
    assert LearntVoice.load(path).name == voice.name
    for arrays, said in wrong_arrays(whole, name, ARRAYS[name]):
        shape = arrays[name].shape if name in arrays else ()
        if name in _MAY_LACK and name not in arrays:
            continue
        if name == "embeddings" and len(shape) == 3 and shape[2] != whole[name].shape[2]:
            continue  # only a bank can tell
        written(path, arrays, about)
        with pytest.raises(BankError) as refused:
            LearntVoice.load(path)
        text = str(refused.value)
        assert str(path) in text and "\n" not in text
        assert said in text or name.startswith("correction.")


@pytest.mark.parametrize("key, value, said", [
    ("format", "miao voice 9", "not a learnt voice"), ("name", "", "does not say its name"),
    ("bank", "", "does not say its bank"), ("nets", "", "does not say its nets"),
    ("middle_velocity", "loud", 'middle_velocity is "loud"; it must be a number'),
    ("middle_velocity", "1.5", "middle_velocity is 1.5; it must be 0 to 1"),
    ("middle_velocity", "nan", "middle_velocity is nan"), ("release_seconds", "-1", "release_seconds is -1"),
    ("release_seconds", "nan", "release_seconds is nan"),
])  # fmt: skip
def test_a_voice_that_is_wrong_in_a_word(voice, tmp_path, key, value, said):
    path = tmp_path / "mine.safetensors"
    whole, about = saved(voice, path)
    for words in (about | {key: value}, {k: v for k, v in about.items() if k != key}):
        written(path, whole, words)
        with pytest.raises(BankError) as refused:
            LearntVoice.load(path)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)
        assert said in str(refused.value) or key not in words


def test_a_voice_of_which_one_byte_has_changed(voice, tmp_path):
    path = tmp_path / "mine.safetensors"
    voice.save(path)
    assert LearntVoice.load(path).about == voice.about | {
        k: v for k, v in LearntVoice.load(path).about.items() if k not in voice.about
    }
    data = path.read_bytes()
    for place in (len(data) // 2, len(data) - 2, data.index(b"licence") + 12):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(BankError, match=r"mine\.safetensors: has been changed or damaged since it was saved"):
            LearntVoice.load(path)
    for some in (b"", data[:100], data[:-1]):
        path.write_bytes(some)
        with pytest.raises(BankError, match=r"mine\.safetensors: not a readable safetensors file"):
            LearntVoice.load(path)


def test_a_voice_with_embeddings_of_another_width_does_not_fit(voice):
    bank = Bank.load("gm", 1)
    narrow = VoiceEmbeddings(voice.embeddings.embeddings[:, :, :5], voice.embeddings.profiles)
    other = replace(voice, embeddings=narrow, about=voice.about | {"nets": bank.nets_checksum})
    with pytest.raises(BankError, match="has embeddings of another width than the bank gm"):
        bank.with_voices([other])
