"""The recipe of a bank: its steps go on where they were stopped, and never leave a bank that does not load."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from miao.bank import tokens as tk
from miao.bank.folder import BankConfig, changed, read_config, seal
from miao.cli.main import app
from miao.datasets import kits
from miao.datasets.kits import Extra
from miao.datasets.notes import Source
from miao.datasets.variations import Variation, save_variations
from miao.errors import BankError, DataError
from miao.training import finish

CONFIG = BankConfig(2, 8, False)


@pytest.fixture
def folder(tmp_path):
    """A sealed folder with two files."""
    made = tmp_path / "bank"
    made.mkdir()
    for name in ("keys.safetensors", "voices.safetensors"):
        (made / name).write_bytes(b"old")
    seal(made, CONFIG)
    return made


@pytest.fixture
def notes(tmp_path):
    """A folder with notes of a program and of a drum key."""
    made = tmp_path / "notes"
    made.mkdir()
    for voice in ("024.0", "024.1", "137.0"):
        (made / f"voice_{voice}.npz").write_bytes(b"")
    return made


@pytest.mark.parametrize("is_written", [False, True])
def test_a_change_that_is_cut_off_before_or_behind_its_file_leaves_a_whole_bank(folder, is_written):
    with pytest.raises(KeyboardInterrupt), changed(folder, "keys.safetensors") as path:
        assert read_config(folder) == CONFIG  # as a killed process would leave it
        if is_written:
            path.write_bytes(b"new")
            assert read_config(folder) == CONFIG
        raise KeyboardInterrupt
    assert read_config(folder) == CONFIG
    (folder / "voices.safetensors").write_bytes(b"bad")
    with pytest.raises(BankError, match=r"voices\.safetensors: has been changed or damaged"):
        read_config(folder)


def test_what_a_change_wrote_is_sealed_and_what_it_removed_is_not_missed(folder):
    with changed(folder, "keys.safetensors") as path:
        path.write_bytes(b"new")
    assert read_config(folder) == CONFIG
    (folder / "keys.safetensors").write_bytes(b"bad")
    with pytest.raises(BankError, match=r"keys\.safetensors: has been changed"), changed(folder, "voices.safetensors"):
        pass
    (folder / "keys.safetensors").write_bytes(b"new")
    with changed(folder, "keys.safetensors") as path:
        path.unlink()
    assert read_config(folder) == CONFIG


def test_steps_are_done_once_and_those_of_kits_and_variations_if_there_are_notes_of_some(folder, notes):
    plain = ["taught", "spectra", "drums", "keys", "openings", "wavers", "sides", "lasting"]
    assert finish.left(folder, notes) == plain
    kits.save_extras([Extra(189, Source(8, key=36), 189, 0.0)], notes)
    save_variations([Variation(Source(24, 8), "Ukulele")], notes)
    assert finish.left(folder, notes) == ["kits", *plain, "variations"]
    for step in ("spectra", "kits", "spectra"):
        finish.done(folder, step)
    assert finish.left(folder, notes) == [step for step in [*plain, "variations"] if step != "spectra"]
    assert read_config(folder) == CONFIG


def test_only_voices_that_there_are_notes_of_are_measured(notes, tmp_path):
    assert finish.sources(notes) == {24: Source(24), 137: Source(0, key=36)}
    with pytest.raises(DataError, match="holds no notes; make them with `miao data soundfont"):
        finish.sources(tmp_path)


def test_nets_are_trained_on_the_voices_of_general_midi_alone(tmp_path):
    """Kits have shards beside theirs, and are learnt when the nets are done."""
    from miao.cli.train import Material

    chunks = np.zeros((2, tk.CHUNK_STEPS, tk.N_CELLS), np.uint8)
    one = {"pitch": [36], "velocity": [100], "hold": [0.5], "n_held": [1], "n_release": [1], "row_pitch": []}
    for voice in (24, 137, 189, 250):
        np.savez(tmp_path / f"voice_{voice:03d}.0.npz", tokens=chunks, is_drum=voice > 128, **one)
    material = Material.of([tmp_path])
    assert [note.voice for note in material.all_notes()] == [24, 137]


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)), prog_name="miao")


@pytest.fixture
def recorded(monkeypatch):
    """Steps that say that they were asked for; the third fails when it is asked for the first time."""
    asked = []

    def step(name):
        def do(bank, font, notes, tell):
            asked.append(name)
            if asked == ["taught", "spectra", "drums"]:
                raise DataError("the power failed")

        return do

    monkeypatch.setattr(finish, "STEPS", {name: (what, step(name)) for name, (what, _) in finish.STEPS.items()})
    monkeypatch.setattr("miao.datasets.soundfont.SoundFont.__init__", lambda self, path: None)
    monkeypatch.setattr("miao.datasets.soundfont.SoundFont.close", lambda self: None)
    return asked


def test_finish_goes_on_with_the_step_at_which_it_was_stopped(folder, notes, recorded):
    finishing = ("finish", folder, "--soundfont", "font.sf2", "--data", notes)
    stopped = run(*finishing)
    assert stopped.exit_code == 2 and "the power failed" in stopped.output
    assert run(*finishing).exit_code == 0
    assert recorded == ["taught", "spectra", "drums", "drums", "keys", "openings", "wavers", "sides", "lasting"]
    again = run(*finishing)
    assert again.exit_code == 0 and "nothing is left to do; --only STEP does a step again (kits" in again.output
    assert run(*finishing, "--only", "drums").exit_code == 0
    assert recorded[9:] == ["drums"]


def test_mistakes_are_told_in_one_line(folder, notes, tmp_path):
    for words, said in (
        (("--soundfont", tmp_path / "none.sf2", "--data", notes), "none.sf2: no such SoundFont"),
        (("--soundfont", notes, "--data", notes, "--only", "colour"), 'there is no step "colour"; there are kits,'),
    ):
        result = run("finish", folder, *words)
        assert result.exit_code == 2 and said in result.output and result.output.count("\n") == 1, result.output


def test_a_folder_is_for_the_voices_that_it_was_begun_for(tmp_path):
    """As kits' voices are numbered one after another: others in between would have their shards."""
    kits.begin(tmp_path / "some", [24, 137])
    kits.begin(tmp_path / "some", [137, 24])
    with pytest.raises(DataError, match="some: was begun for --voices 25,138; go on with these, or give another"):
        kits.begin(tmp_path / "some", range(189))
    assert json.loads((tmp_path / "some" / "voices.json").read_text()) == [24, 137]
    old = tmp_path / "old"
    old.mkdir()
    (old / "extra.json").write_text("[]")
    kits.begin(old, range(189))
    (old / "voices.json").unlink()
    with pytest.raises(DataError, match="old: was begun for all voices"):
        kits.begin(old, [3])
