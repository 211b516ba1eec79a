"""What a user can cause. Anything else that is raised is a fault of ours."""


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
