"""EfficientNet-Lite0 by PyTorch: layer by layer, normalisations on their own."""

import torch
from torch.nn import functional as F

from cyclegan_ms.weights.imagenet import require_efficientnet

STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
"""Of the 16 blocks, as the paper's table 1 counts them; 1 elsewhere."""


def efficientnet(levels):
    """The outputs of all 16 blocks, the pooled features, and the scores of ImageNet's classes.

    For pictures (N, 3, H, W) of levels 0 to 255.
    """
    state = torch.load(require_efficientnet(), weights_only=True)

    def convolved(x, name, norm, stride=1, groups=1, bounded=True):
        weight = state[f"{name}.weight"]
        kernel = weight.shape[2]
        # TensorFlow: as many outputs as inputs over the stride, the odd zero behind.
        extra = max((-(-x.shape[2] // stride) - 1) * stride + kernel - x.shape[2], 0)
        before, behind = extra // 2, extra - extra // 2
        x = F.conv2d(F.pad(x, (before, behind) * 2), weight, None, stride, groups=groups)
        keys = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(state[f"{norm}.{key}"] for key in keys), eps=1e-3)
        return F.relu6(x) if bounded else x

    x = convolved((levels - 127) / 128, "_conv_stem", "_bn0", 2)
    outputs = []
    for index in range(16):
        block, y = f"_blocks.{index}", x
        if index:
            y = convolved(y, f"{block}._expand_conv", f"{block}._bn0")
        depthwise = f"{block}._depthwise_conv"
        y = convolved(y, depthwise, f"{block}._bn1", STRIDES.get(index, 1), y.shape[1])
        y = convolved(y, f"{block}._project_conv", f"{block}._bn2", bounded=False)
        x = x + y if x.shape == y.shape else y
        outputs.append(x)
    x = convolved(x, "_conv_head", "_bn1").mean((2, 3))
    return outputs, x, F.linear(x, state["_fc.weight"], state["_fc.bias"])
