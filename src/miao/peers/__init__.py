"""The paper's peers, by the names that presets, systems and reports know them by."""

PEERS = ("midi2wave", "midi-ddsp", "mi-ddpm")
NEED_INVERTER = ("midi2wave", "mi-ddpm")  # they make sound by the run called "inverter" beside theirs
