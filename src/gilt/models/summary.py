"""A network layer by layer, as Keras prints it."""
import torch
from torch import nn


def layer_table(network: nn.Module, input_size: int) -> list[list[object]]:
    """Return [layer, kind, output shape, parameters] for every leaf layer, in the order they run."""
    rows: list[list[object]] = []

    def note(name: str, layer: nn.Module):
        def hook(_layer: nn.Module, _inputs: object, out: torch.Tensor) -> None:
            shape = "x".join(str(n) for n in out.shape[1:])
            rows.append([name, type(layer).__name__, shape, sum(p.numel() for p in layer.parameters())])

        return hook

    handles = [layer.register_forward_hook(note(name, layer)) for name, layer in network.named_modules()
               if name and not list(layer.children())]
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, input_size, input_size))
    finally:
        for handle in handles:
            handle.remove()
    return rows
