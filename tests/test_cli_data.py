"""The commands about data sets."""

import functools
import hashlib
import http.server
import threading
import zipfile
from types import SimpleNamespace

import pytest
from test_datasets import make_guitarset, write
from typer.testing import CliRunner

from miao.cli.main import app
from miao.datasets import guitarset
from miao.datasets.catalogue import DATASETS
from miao.datasets.download import Remote


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guitarset")
    make_guitarset(folder)
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.HTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield SimpleNamespace(folder=folder, address=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def run(*words):
    return CliRunner().invoke(app, ["data", *map(str, words)], prog_name="miao")


def test_list_names_every_data_set():
    result = run("list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_info_prints_the_card(name):
    result = run("info", name)
    assert result.exit_code == 0
    assert DATASETS[name].CITATION in result.stdout and f"Licence: {DATASETS[name].LICENSE}" in result.stdout
    assert all(remote.url in result.stdout for remote in DATASETS[name].REMOTES)


def test_info_counts_what_is_there(root):
    result = run("info", "guitarset", "--root", root)
    assert " ".join(result.stdout.split()) == (
        "guitarset: 3 recordings with notes and sound train 2 validation 0 test 1")  # fmt: skip


def test_verify_is_silent_about_what_is_well(root):
    result = run("verify", "guitarset", "--root", root)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{root}: guitarset: 2 train, 0 validation, 1 test\n"


def test_verify_prints_each_fault_and_exits_with_2(tmp_path):
    make_guitarset(tmp_path)
    (tmp_path / "audio_mono-mic/05_SS3-98-C_solo_mic.wav").unlink()
    write(tmp_path / "annotation/00_BN1-129-Eb_comp.jams", b"{")
    result = run("verify", "guitarset", "--root", tmp_path)
    assert result.exit_code == 2
    missing, damaged = result.stdout.splitlines()
    assert missing == "audio_mono-mic/05_SS3-98-C_solo_mic.wav: missing"
    assert damaged.startswith("annotation/00_BN1-129-Eb_comp.jams: not GuitarSet's JAMS")
    assert result.stderr.splitlines()[-1].startswith(f"miao: {tmp_path}: 2 faults in 2 files; ")


def test_an_unknown_data_set_is_one_line_and_exit_code_2():
    result = run("verify", "guitarsett", "--root", ".")
    assert result.exit_code == 2
    assert result.stderr == f"miao: guitarsett: not a known data set; there are {', '.join(DATASETS)}\n"


def test_download_and_unpack_make_a_data_set(root, tmp_path, monkeypatch, served):
    remotes = []
    for folder in ("annotation", "audio_mono-mic"):
        with zipfile.ZipFile(served.folder / f"{folder}.zip", "w") as archive:
            for path in (root / folder).iterdir():
                archive.write(path, path.name)
        md5 = hashlib.md5((served.folder / f"{folder}.zip").read_bytes()).hexdigest()
        remotes.append(Remote(f"{folder}.zip", f"{served.address}/{folder}.zip", None, f"md5:{md5}", folder=folder))
    monkeypatch.setattr(guitarset, "REMOTES", tuple(remotes))
    result = run("download", "guitarset", "--root", tmp_path / "data")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == f"next: miao data unpack guitarset --root {tmp_path / 'data'}"
    assert run("unpack", "guitarset", "--root", tmp_path / "data").exit_code == 0
    assert run("verify", "guitarset", "--root", tmp_path / "data").exit_code == 0
    assert run("info", "guitarset", "--root", tmp_path / "data").stdout.startswith("guitarset: 3 recordings")


def test_what_a_program_cannot_fetch_is_told(tmp_path):
    result = run("download", "urmp", "--root", tmp_path)
    assert result.exit_code == 2
    assert "fetch it there with a browser (https://doi.org/10.5061/dryad.ng3r749)" in result.stderr
