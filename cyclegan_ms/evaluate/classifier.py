"""A small convolutional network that tells domain A from B, to judge translations by."""

import numpy as np

import mindspore as ms
from mindspore import nn

from cyclegan_ms.device import quiet_mindspore
from cyclegan_ms.evaluate.metrics import share_metrics

__all__ = ["METRICS", "SIZE", "STEPS", "Classifier", "train_classifier"]

SIZE = 64
"""Side of the images that it sees."""
STEPS = 400
"""Number of training steps."""

METRICS = share_metrics(
    "taken_for_target", "taken for the target domain",
    "Share of translations that a small classifier, trained on the real training images, takes for "
    "the target domain. Colour and texture satisfy it: where the share recognised disagrees, "
    "believe that one.",
)  # fmt: skip

_BATCH = 32


class Classifier:
    """A trained network, and its accuracy on real images that it was not trained on.

    Args:
        network: (N, 3, 64, 64) in [-1, 1] to (N, 1), above 0 for domain B.
        trained_on: numbers of training images of A and of B.
        held_out: images of A and of B that were kept back.
    """

    def __init__(self, network: nn.Cell, trained_on: list[int], held_out: list[np.ndarray]):
        self.network = network
        self.trained_on = trained_on
        self.held_out = [len(images) for images in held_out]
        self.held_out_accuracy = self.accuracy(*held_out)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the log-odds (N,) that images (N, 3, 64, 64) in [-1, 1] are of B and not of A."""
        # In batches of one size, the last one filled up: a network is compiled for a size.
        results = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            full = np.resize(batch, (_BATCH, *batch.shape[1:]))
            results.append(self.network(ms.Tensor(full)).asnumpy()[: len(batch), 0])
        return np.concatenate(results)

    def accuracy(self, images_a: np.ndarray, images_b: np.ndarray) -> float:
        """Return the share it tells rightly: the mean of both domains, so that chance is 0.5."""
        right = [self.logits(images_a) <= 0, self.logits(images_b) > 0]
        return float(np.mean([answers.mean() for answers in right]))


def train_classifier(
    images_a: np.ndarray, images_b: np.ndarray, steps: int = STEPS, seed: int = 0
) -> Classifier:
    """Train on four fifths of the images and hold out the last fifth, drawn at random.

    Adam, a rate that falls from 2e-3 to 0 as a cosine, batches with as many images of A as of B,
    half of them mirrored. Weights, order and held-out images are functions of the seed alone.

    Args:
        images_a: real images of A, (N, 3, 64, 64) in [-1, 1], at least 2.
        images_b: of B.
        steps: number of batches of 32.
        seed: seed of everything random.
    """
    rng = np.random.default_rng(seed)
    shuffled = [images[rng.permutation(len(images))] for images in (images_a, images_b)]
    kept_back = [max(1, len(images) // 5) for images in shuffled]
    held_out = [images[:count] for images, count in zip(shuffled, kept_back)]
    training = [images[count:] for images, count in zip(shuffled, kept_back)]

    network = _build(rng)
    rates = 1e-3 * (1 + np.cos(np.pi * np.arange(steps) / steps))
    with quiet_mindspore():  # MindSpore warns of a deprecated operator in its own Adam
        optimizer = nn.Adam(network.trainable_params(), learning_rate=rates.tolist())
    loss = nn.WithLossCell(network, nn.BCEWithLogitsLoss())
    step = nn.TrainOneStepCell(loss, optimizer).set_train()
    labels = ms.Tensor(np.repeat([[0.0], [1.0]], _BATCH // 2, axis=0), ms.float32)  # (N, 1)
    for _ in range(steps):
        chosen = [images[rng.integers(len(images), size=_BATCH // 2)] for images in training]
        batch = np.concatenate(chosen)  # (N, 3, 64, 64)
        mirrored = rng.random(_BATCH) < 0.5
        batch[mirrored] = batch[mirrored, ..., ::-1]
        step(ms.Tensor(batch), labels)
    return Classifier(network.set_train(False), [len(images) for images in training], held_out)


def _build(rng):
    """Build four convolutions that halve the sides, a mean over what is left, one output."""
    layers: list[nn.Cell] = []
    channels = 3
    for width in (16, 32, 64, 128):
        shape = (width, channels, 3, 3)
        weights = rng.normal(0, np.sqrt(2 / (9 * channels)), shape)  # He et al. 2015
        layers += [
            nn.Conv2d(channels, width, 3, 2, pad_mode="pad", padding=1,
                      weight_init=ms.Tensor(weights, ms.float32)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]  # fmt: skip
        channels = width
    head = nn.Dense(channels, 1, weight_init="zeros", bias_init="zeros")
    return nn.SequentialCell(*layers, nn.AvgPool2d(SIZE // 16), nn.Flatten(), head)
