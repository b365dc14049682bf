"""What may change when a training is resumed, and what may not."""

import hashlib
import logging
import os

from cyclegan_ms.config import Config, UserError, config_values

__all__ = ["check_changes", "fingerprint"]

log = logging.getLogger(__name__)

# Neither weights nor losses depend on these; a device computes the same up to rounding.
_FREE = {
    "data.workers",
    "train.max_steps",
    "train.log_every",
    "train.save_every",
    "train.sample_every",
    "train.evaluate_every",
    "train.state_minutes",
    "train.keep",
    "train.tensorboard",
    "device.target",
    "device.mode",
    "device.id",
}


def fingerprint(*domains) -> str:
    """A short text that is the same for the same images in the same order, as their names and
    sizes tell, or the checksums of a MindRecord file's rows."""
    names = "\n".join(name for domain in domains for name in ("", *domain.names))
    return hashlib.sha256(os.fsencode(names)).hexdigest()[:16]


def check_changes(
    facts: dict, config: Config, images: str, same_rates: bool, workers: int = 1
) -> None:
    """Compare a saved state with what it is to be resumed as; say the differences.

    Another number of workers is sound, up to rounding, where a step keeps its images.

    Args:
        facts: of the state; `config`, `images`, `workers` and `step` are used.
        config: the configuration to go on with.
        images: fingerprint of the images to go on with.
        same_rates: whether the steps already done had the learning rates of `config`.
        workers: how many share a step from now on.

    Raises:
        UserError: a difference that would make another training of it.
    """
    before, after = facts["config"], config_values(config)
    changed = {key for key in after if before.get(key) != after[key]}
    sound = set(_FREE)
    workers_before = facts["workers"]
    if workers != workers_before:
        per_step = before["data.batch_size"] * workers_before
        if config.data.batch_size * workers != per_step:
            fit = (
                f"give --data.batch_size {per_step // workers}"
                if per_step % workers == 0
                else f"take a number of workers that divides {per_step}"
            )
            raise UserError(
                f"--resume: a step of this run has {per_step} images per domain "
                f"(data.batch_size {before['data.batch_size']} on {workers_before} workers), not "
                f"{config.data.batch_size * workers}; {fit}"
            )
        sound.add("data.batch_size")
        log.info("resumed on %d workers instead of %d", workers, workers_before)
    if images == facts["images"]:
        sound.add("data.root")
    if same_rates:
        sound |= {"train.epochs", "train.decay_epochs"}
    elif changed & {"train.epochs", "train.decay_epochs"}:
        raise UserError(
            "--resume cannot change train.epochs or train.decay_epochs so: the learning rate of "
            f"steps already done would have been another (at step {facts['step']})"
        )
    if wrong := sorted(changed - sound):
        listed = ", ".join(f"{key} ({before.get(key)} -> {after[key]})" for key in wrong)
        raise UserError(f"--resume cannot change {listed}; start a new run for that")
    if images != facts["images"]:
        raise UserError(
            f"--resume: the images in data.root {config.data.root} are not those that the run "
            f"began with; restore them, or start a new run"
        )
    for key in sorted(changed):
        log.info("resumed with %s %s -> %s", key, before.get(key), after[key])
