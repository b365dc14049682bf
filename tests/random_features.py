"""Write a network of random weights as ONNX, for FID and KID where no trained one can be had.

python tests/random_features.py random64.onnx

It can tell distributions apart by colour and texture more than by what is shown (Naeem et al.
2020). It has 64 features rather than 2048, of which a few hundred images say more. Needs torch and
onnx; with torch 2.13.0 the file's sha256 begins with e07bab7e91c2.
"""

import sys

import torch
from torch import nn


def build() -> nn.Module:
    """Four convolutions with pooling and a linear layer: (N, 3, 64, 64) in [0, 1] to (N, 64)."""
    torch.manual_seed(0)
    layers, channels = [], 3
    for width in (64, 128, 256, 512):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * 4 * 4, 64))
    for parameter in network.parameters():
        nn.init.kaiming_normal_(parameter) if parameter.ndim > 1 else nn.init.zeros_(parameter)
    return network


def write(network: nn.Module, path) -> None:
    """Write a network as ONNX, for any number of images."""
    torch.onnx.export(
        network,
        torch.zeros(1, 3, 64, 64),
        str(path),
        dynamo=False,
        input_names=["image"],
        dynamic_axes={"image": {0: "n"}},
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    write(build(), sys.argv[1])
