"""What a user can cause. Anything else that is raised is a fault of ours."""

import importlib.util

EXTRAS = {  # the libraries that commands import by name: those that `needs` asks for if it is told no others
    "train": ("torch", "lightning_fabric", "onnx", "onnxscript", "webdataset", "joblib"),
    "evaluate": ("joblib", "matplotlib", "mir_eval", "pyloudnorm", "scipy"),
    "plot": ("matplotlib",),
    "web": ("starlette", "uvicorn", "websockets"),
    "live": ("sounddevice", "rtmidi"),
    "dask": ("dask", "distributed", "joblib"),
}
PARTS = {"train": ("fluidsynth", "yaml", "tensorboard"), "evaluate": ("ai_edge_litert",)}  # that not all of it needs


class MiaoError(Exception):
    """A mistake or a broken file of the user's; the command prints it as one line and exits with 2."""


class ScoreError(MiaoError):
    """A MIDI file that cannot be read, or a score that cannot be rendered."""


class AudioError(MiaoError):
    """A sound file that cannot be read or written."""


class BankError(MiaoError):
    """A bank that is missing, incomplete or made for another version."""


class DataError(MiaoError):
    """A sound bank, data set or shard that is missing or damaged."""


class CheckpointError(MiaoError):
    """A checkpoint folder that cannot be resumed from."""


class ConfigError(MiaoError):
    """A preset or setting that is unknown or out of range."""


class MissingExtra(MiaoError):
    """A library that only some commands need, and that is not installed."""


def needs(extra: str, *modules: str) -> None:
    """Raises: MissingExtra, which says what to install, if a library of an extra (all, or these) is not there."""
    for module in modules or EXTRAS[extra]:
        try:
            is_there = importlib.util.find_spec(module) is not None
        except ImportError:
            is_there = False
        if not is_there:
            raise missing(module, extra)


def missing(module: str, extra: str = "") -> MissingExtra:
    """The error that says which library is not there and what to install."""
    extra = extra or next((e for table in (EXTRAS, PARTS) for e, names in table.items() if module in names), "")
    return MissingExtra(f"{module} is not installed: pip install 'miao-synth{f'[{extra}]' if extra else ''}'")
