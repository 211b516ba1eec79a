"""The compiled audio decoder, see _nets.cpp: what does not fit raises TypeError or ValueError."""

from miao.arrays import AnyArray, Floats, Integers

variants: list[str]  # all kinds that this processor can run, best first

class Decoder:
    """The decoder of one kind of chunk; arrays are C-contiguous and of the types that its graph takes."""

    def __init__(
        self, weights: dict[str, AnyArray], is_attack: bool, voice_width: int, context_width: int, hidden: int,
        n_indices: int, variant: str = "",
    ) -> None: ...  # fmt: skip
    def write(
        self, embedding: Floats, profile: Floats, pitch: Floats, velocity: Floats, index: Integers, age: Floats,
        previous: Floats | None, context: Floats, levels: Floats, spread: Floats,
    ) -> None: ...  # fmt: skip
