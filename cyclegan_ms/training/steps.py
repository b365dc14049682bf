"""The step cells: one update each, of the generators or of the discriminators."""

import mindspore as ms
from mindspore import nn, ops

from cyclegan_ms.device import quiet_mindspore
from cyclegan_ms.model.convolutions import OnCpu
from cyclegan_ms.model.layers import InstanceNorm, Tanh
from cyclegan_ms.model.losses import GeneratorLoss

__all__ = [
    "Averaging",
    "CheckedStep",
    "EpochRates",
    "GeneratorStep",
    "ScaledStep",
    "adam",
    "in_precision",
]


class CheckedStep(nn.TrainOneStepCell):
    """One update that also tells whether all gradients were finite.

    The network returns its loss first; only that is differentiated. Returns the network's outputs
    and a boolean scalar: whether the sum of the gradients' squares is finite, in float32.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Cell):
        super().__init__(network, optimizer)
        # One forward pass in PyNative mode too, where the base class makes two.
        self.forward_backward = ops.value_and_grad(network, None, self.weights, has_aux=True)
        # On CPU 7 times as fast as `ms.amp.all_finite`.
        self.each, self.square, self.add = ops.HyperMap(), ops.L2Loss(), ops.AddN()

    def construct(self, *inputs):
        outputs, gradients = self.forward_backward(*inputs)
        gradients = self.grad_reducer(gradients)
        finite = ops.isfinite(self.add(self.each(self.square, gradients)))
        return ops.depend(outputs, self.optimizer(gradients)), finite


class GeneratorStep(CheckedStep):
    """`CheckedStep` of a `GeneratorLoss`, one direction at a time: half the memory for its maps."""

    def __init__(self, network: GeneratorLoss, optimizer: nn.Cell):
        super().__init__(network, optimizer)
        self.of_a, self.of_b = (
            ops.value_and_grad(direction, None, self.weights, has_aux=True)
            for direction in (network.of_a, network.of_b)
        )
        self.forward_backward = self.in_turn

    def in_turn(self, real_a, real_b, draws_a=None, draws_b=None):
        outputs_a, gradients_a = self.of_a(real_a, draws_b)
        real_b = ops.depend(real_b, gradients_a)  # else both directions' maps are alive at once
        outputs_b, gradients_b = self.of_b(real_b, draws_a)
        gradients = self.each(ops.add, gradients_a, gradients_b)
        return self.network.join(outputs_a, outputs_b), gradients


class Averaging(nn.Cell):
    """Move averages towards weights: a += share (w - a), the exponential moving average.

    Args:
        averages: cells whose parameters are the averages.
        cells: cells of the same forms, whose weights are averaged.

    Input `share`, a scalar tensor: 1 minus the decay.
    """

    def __init__(self, averages, cells):
        super().__init__(auto_prefix=False)
        of_all = (
            ms.ParameterTuple(p for cell in some for _, p in cell.parameters_and_names())
            for some in (averages, cells)
        )
        self.averages, self.weights = of_all

    def construct(self, share):
        for average, weight in zip(self.averages, self.weights):
            ops.assign(average, average + share * (weight - average))
        return share


class ScaledStep(nn.TrainOneStepCell):
    """`CheckedStep` in float16: the loss is scaled up so that small gradients do not vanish.

    If gradients overflow, the update is left out and the scale halved; after 1000 good steps it
    doubles (Micikevicius et al. 2018, section 3.2). The boolean is False only if gradients overflow
    at scale 1.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Cell):
        super().__init__(network, optimizer)
        self.scaler = ms.amp.DynamicLossScaler(2.0**16, 2, 1000)
        self.scaled = _ScaledLoss(network, self.scaler)
        self.forward_backward = ops.value_and_grad(self.scaled, None, self.weights, has_aux=True)

    def construct(self, *inputs):
        outputs, gradients = self.forward_backward(*inputs)
        gradients = self.scaler.unscale(self.grad_reducer(gradients))
        finite = ms.amp.all_finite(gradients)
        hopeless = ops.logical_and(ops.logical_not(finite), self.scaler.scale_value <= 1)
        if finite:
            outputs = ops.depend(outputs, self.optimizer(gradients))
        outputs = ops.depend(outputs, self.scaler.adjust(finite))
        return outputs, ops.logical_not(hopeless)


class _ScaledLoss(nn.Cell):
    def __init__(self, network, scaler):
        super().__init__(auto_prefix=False)
        self.network, self.scaler = network, scaler

    def construct(self, *inputs):
        outputs = self.network(*inputs)
        return (self.scaler.scale(outputs[0]), *outputs[1:])


def in_precision(network: nn.Cell, amp: str) -> nn.Cell:
    """Return the network computing as `amp` says, with inputs and outputs in float32.

    Normalisations and tanh stay in float32: in float16 squares overflow from 256 on.

    Args:
        network: any.
        amp: O0 for float32, O2 for float16, bf16 for bfloat16.
    """
    if amp == "O0":
        return network
    kind = {"O2": ms.float16, "bf16": ms.bfloat16}[amp]
    network = ms.amp.auto_mixed_precision(network, "O2", dtype=kind)
    # Not by a black list of MindSpore's: it drops a layer that a `SequentialCell` uses twice.
    for _, cell in network.cells_and_names():
        if isinstance(cell, InstanceNorm | Tanh):
            cell.to_float(ms.float32)
        elif isinstance(cell, OnCpu):
            cell.use(None)
    return network


class EpochRates(nn.learning_rate_schedule.LearningRateSchedule):
    """The learning rate of a step, of which every `per_epoch` share one; the last one stays.

    By comparisons, which are exact on every device: a division may be one of float32 there, and
    wrong from 2^24 steps on.
    """

    def __init__(self, rates: list[float], per_epoch: int):
        super().__init__()
        self.rates = ms.Tensor(rates, ms.float32)
        self.starts = ms.Tensor([epoch * per_epoch for epoch in range(len(rates))], ms.int32)

    def construct(self, global_step):
        begun = ops.greater_equal(global_step, self.starts).astype(ms.float32).sum()
        return ops.gather(self.rates, begun.astype(ms.int32) - 1, 0)


def adam(cells, rates: list[float], beta1: float, epsilon: float, per_epoch: int = 1) -> nn.Adam:
    """Return an Adam of all parameters of some cells, with the rates of `EpochRates`."""
    parameters = [p for cell in cells for p in cell.trainable_params()]
    rate = EpochRates(rates, per_epoch)
    with quiet_mindspore():  # MindSpore warns of a deprecated operator in its own Adam
        return nn.Adam(parameters, learning_rate=rate, beta1=beta1, eps=epsilon)
