"""The method: networks, convolutions, losses, image pool. Knows no configuration."""
