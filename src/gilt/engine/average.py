"""The running mean of a network's weights over the steps (EMA): what is judged and kept where `train.ema` asks for it."""
import copy
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """A copy of a network that follows it: after each step, average = d * average + (1 - d) * network.

    d is `decay`, and less at the start, (1 + step) / (10 + step), or the mean would remember the random start for long. The
    running means and variances of batch norm are averaged alike, since they must fit the averaged weights; whole numbers
    (its count of batches) are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = copy.deepcopy(network).eval().requires_grad_(False), decay, 0
        mine, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        self.mine, self.theirs = [mine[name] for name in floats], [theirs[name] for name in floats]
        self.copied = [(mine[name], theirs[name]) for name in mine if name not in set(floats)]

    @torch.no_grad()
    def update(self) -> None:
        """Take one step of the network in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(self.mine, self.theirs, None)
        for mine, theirs in self.copied:
            mine.copy_(theirs)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"steps": self.steps, "network": self.network.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.steps = state["steps"]
        self.network.load_state_dict(state["network"])
