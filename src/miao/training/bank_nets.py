"""The nets of a finished bank as torch modules again: fixed, but with gradients, so that voices can be learnt."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from miao.bank.bank import Bank
from miao.errors import BankError
from miao.nets.model import AudioDecoder, ModelConfig
from miao.training.export import _DecoderOfKind


def bank_nets(bank: Bank) -> list[nn.Module]:
    """The decoder of each chunk kind, as exported: (embedding [B, W], profile [B, C], pitch, velocity, index, age,
    previous, context) -> (expected levels [B, a, C], their spread). Nothing in them is trained.

    Raises: BankError if a graph is not one of this model's.
    """
    names = ("attack", "sustain", "release")
    return [_net(bank.folder / f"{name}.onnx", kind, bank) for kind, name in enumerate(names)]


def _net(path: Path, kind: int, bank: Bank) -> nn.Module:
    assert bank.embeddings is not None
    weights = _weights(onnx.load(str(path)))
    try:
        is_ffn = "before.conv.weight" not in weights
        config = ModelConfig(
            width=bank.context_width, hidden=len(weights["condition.weight"]),
            voice_width=bank.embeddings.embeddings.shape[2],
            n_heads=ModelConfig.n_heads if is_ffn else len(weights["attention.scale"]),
            decoder_channels=weights["head.weight"].shape[1], decoder="ffn" if is_ffn else "conv", n_voices=1,
        )  # fmt: skip
        net = _DecoderOfKind(AudioDecoder(config), kind)
        net.decoder.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise BankError(f"{path}: not a net that voices can be learnt for ({str(error).splitlines()[0]})") from None
    return net.eval().requires_grad_(False)


def _weights(graph: onnx.ModelProto) -> dict[str, Tensor]:
    """The weights of a graph by the names that they had in the decoder, widened to single precision."""
    stored = {w.name: numpy_helper.to_array(w) for w in graph.graph.initializer}
    kept = [name for name, values in stored.items() if values.dtype == np.float32 and not name.endswith("_scale")]
    named = {name: stored[name] for name in kept}
    for node in graph.graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            named[node.output[0]] = stored[node.input[0]].astype(np.float32)
        elif node.op_type == "DequantizeLinear":
            values, scale = stored[node.input[0]].astype(np.float32), stored[node.input[1]]
            axis = next(a.i for a in node.attribute if a.name == "axis")
            named[node.output[0]] = values * np.expand_dims(scale, 1 - axis)
        elif node.op_type == "Sigmoid":
            named["decoder.keep"] = named.pop(node.input[0])[None]
    return {
        name.removeprefix("decoder."): torch.from_numpy(np.array(values))
        for name, values in named.items()
        if name.startswith("decoder.")
    }
