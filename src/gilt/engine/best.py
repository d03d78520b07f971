"""Which epoch was the best, by one figure of the val rows, and how long ago that was."""
from dataclasses import dataclass

import torch

State = dict[str, torch.Tensor]


@dataclass
class Best:
    """The best epoch so far: its number (0: none), its figure, and its weights where they are to be kept.

    Of epochs with the same figure the first is the best; a figure that is no number is never better.
    """

    monitor: str
    epoch: int = 0
    value: float = 0.0
    weights: State | None = None

    def see(self, epoch: int, value: float) -> bool:
        """Take an epoch's figure in; tell whether it is the best so far."""
        better = value < self.value if self.monitor == "val_loss" else value > self.value
        if value == value and (not self.epoch or better):
            self.epoch, self.value = epoch, value
            return True
        return False
