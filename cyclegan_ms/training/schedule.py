"""How long a training is, and the learning rate of each of its epochs."""

from dataclasses import dataclass

from cyclegan_ms.config import Config, config_values
from cyclegan_ms.errors import UserError

__all__ = ["Schedule", "learning_rates", "rates_of"]


def learning_rates(learning_rate: float, epochs: int, decay_epochs: int) -> list[float]:
    """Return the rate of every epoch: constant, then falling linearly to zero.

    Epoch e of the decay (1 to decay_epochs) has the factor 1 - e / (decay_epochs + 1), so that the
    epoch after the last would have 0 (CycleGAN paper, section 7.1, as its PyTorch reference
    rounds it).
    """
    constant = epochs - decay_epochs
    factors = [1.0] * constant + [1 - e / (decay_epochs + 1) for e in range(1, decay_epochs + 1)]
    return [learning_rate * factor for factor in factors]


def rates_of(values: dict) -> list[float]:
    """Return the learning rate of every epoch of a training, from its `config_values`."""
    keys = ("learning_rate", "epochs", "decay_epochs")
    return learning_rates(*(values[f"train.{key}"] for key in keys))


@dataclass(frozen=True)
class Schedule:
    """The steps of a training; they count from 1."""

    per_step: int
    """number of images of each domain per step, over all workers"""
    per_epoch: int
    """number of steps of an epoch"""
    rates: list[float]
    """learning rate of every epoch"""
    last: int
    """number of the last step"""

    @classmethod
    def of(cls, config: Config, per_epoch: int, workers: int) -> "Schedule":
        """Return the schedule of a configuration, with `per_epoch` steps in each epoch.

        Raises:
            UserError: so many steps have no number.
        """
        train = config.train
        steps = train.epochs * per_epoch
        if steps >= 2**31:
            raise UserError(
                f"train.epochs {train.epochs}: {steps} steps are more than can be counted"
            )
        last = min(steps, train.max_steps or steps)
        per_step = config.data.batch_size * workers
        return cls(per_step, per_epoch, rates_of(config_values(config)), last)

    @property
    def epochs(self) -> int:
        """Number of the last epoch, also where `train.max_steps` ends the training in it."""
        return self.epoch(self.last)

    def epoch(self, step: int) -> int:
        """Return the number of the epoch that a step belongs to, from 1 on."""
        return (step - 1) // self.per_epoch + 1

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.rates[self.epoch(step) - 1]

    def ends_epoch(self, step: int) -> bool:
        """Return whether a step is the last of its epoch."""
        return step % self.per_epoch == 0
