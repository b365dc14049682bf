"""How long a training is, and the learning rate of each of its steps."""

from dataclasses import dataclass

from cyclegan_ms.config import Config, config_values

__all__ = ["Schedule", "learning_rates", "rates_of"]


def learning_rates(
    learning_rate: float, epochs: int, decay_epochs: int, steps_per_epoch: int
) -> list[float]:
    """Return the rate of every step: constant, then falling linearly to zero, epoch by epoch.

    Epoch e of the decay (1 to decay_epochs) has the factor 1 - e / (decay_epochs + 1), so that the
    epoch after the last would have 0 (CycleGAN paper, section 7.1, as its PyTorch reference
    rounds it).
    """
    constant = epochs - decay_epochs
    factors = [1.0] * constant + [1 - e / (decay_epochs + 1) for e in range(1, decay_epochs + 1)]
    return [learning_rate * factor for factor in factors for _ in range(steps_per_epoch)]


def rates_of(values: dict, per_epoch: int) -> list[float]:
    """Return the learning rate of every step of a training, from its `config_values`."""
    rate, epochs, decay_epochs = (
        values[f"train.{key}"] for key in ("learning_rate", "epochs", "decay_epochs")
    )
    return learning_rates(rate, epochs, decay_epochs, per_epoch)


@dataclass(frozen=True)
class Schedule:
    """The steps of a training; they count from 1."""

    per_step: int
    """number of images of each domain per step, over all workers"""
    per_epoch: int
    """number of steps of an epoch"""
    epochs: int
    rates: list[float]
    """learning rate of every step"""
    last: int
    """number of the last step"""

    @classmethod
    def of(cls, config: Config, per_epoch: int, workers: int) -> "Schedule":
        """Return the schedule of a configuration, with `per_epoch` steps in each epoch."""
        rates = rates_of(config_values(config), per_epoch)
        last = min(len(rates), config.train.max_steps or len(rates))
        per_step = config.data.batch_size * workers
        return cls(per_step, per_epoch, config.train.epochs, rates, last)

    def epoch(self, step: int) -> int:
        """Return the number of the epoch that a step belongs to, from 1 on."""
        return (step - 1) // self.per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        """Return whether a step is the last of its epoch."""
        return step % self.per_epoch == 0
