"""The paper's networks and training step in plain PyTorch, written for these tests alone.

Layer order, and with it parameter names, follow the published checkpoints.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv_block(x)


class Generator(nn.Module):
    def __init__(self, c_in=3, c_out=3, w=64, blocks=9):
        super().__init__()
        down = []
        for c in (w, 2 * w):
            down += [nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU()]
        up = []
        for c in (4 * w, 2 * w):
            up += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1), nn.InstanceNorm2d(c // 2), nn.ReLU()]
        self.model = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(c_in, w, 7), nn.InstanceNorm2d(w), nn.ReLU(),
            *down, *[Block(4 * w) for _ in range(blocks)], *up,
            nn.ReflectionPad2d(3), nn.Conv2d(w, c_out, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x):
        return self.model(x)


class Discriminator(nn.Module):
    def __init__(self, c_in=3, w=64):
        super().__init__()
        layers = [nn.Conv2d(c_in, w, 4, 2, 1), nn.LeakyReLU(0.2)]
        for c, stride in ((w, 2), (2 * w, 2), (4 * w, 1)):
            layers += [
                nn.Conv2d(c, 2 * c, 4, stride, 1), nn.InstanceNorm2d(2 * c), nn.LeakyReLU(0.2),
            ]  # fmt: skip
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * w, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


def adversarial(logits, real, kind):
    target = torch.full_like(logits, float(real))
    if kind == "lsgan":
        return F.mse_loss(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target)


class Reference:
    """Four networks and two Adams, updated as the paper says."""

    def __init__(self, networks, kind="lsgan", lr=2e-4, lambdas=(10.0, 10.0, 0.5)):
        self.nets = networks
        self.kind, self.lambdas = kind, lambdas
        self.adam_g = self._adam(lr, "g_ab", "g_ba")
        self.adam_d = self._adam(lr, "d_a", "d_b")

    def _adam(self, lr, *names):
        parameters = [p for name in names for p in self.nets[name].parameters()]
        return torch.optim.Adam(parameters, lr, betas=(0.5, 0.999), eps=1e-8)

    def generator_terms(self, real_a, real_b):
        g_ab, g_ba, d_a, d_b = (self.nets[name] for name in ("g_ab", "g_ba", "d_a", "d_b"))
        la, lb, li = self.lambdas
        fake_b, fake_a = g_ab(real_a), g_ba(real_b)
        terms = {
            "g_ab": adversarial(d_b(fake_b), True, self.kind),
            "g_ba": adversarial(d_a(fake_a), True, self.kind),
            "cycle_a": la * F.l1_loss(g_ba(fake_b), real_a),
            "cycle_b": lb * F.l1_loss(g_ab(fake_a), real_b),
        }
        if li:
            terms["idt_a"] = la * li * F.l1_loss(g_ba(real_a), real_a)
            terms["idt_b"] = lb * li * F.l1_loss(g_ab(real_b), real_b)
        return terms, fake_a.detach(), fake_b.detach()

    def discriminator_terms(self, real_a, real_b, fake_a, fake_b):
        terms = {}
        for name, real, fake in (("d_a", real_a, fake_a), ("d_b", real_b, fake_b)):
            judge = self.nets[name]
            terms[name] = 0.5 * (
                adversarial(judge(real), True, self.kind)
                + adversarial(judge(fake), False, self.kind)
            )
        return terms

    def step(self, real_a, real_b, pool_a, pool_b):
        real_a, real_b = torch.from_numpy(real_a), torch.from_numpy(real_b)
        terms_g, fake_a, fake_b = self.generator_terms(real_a, real_b)
        self.adam_g.zero_grad()
        sum(terms_g.values()).backward()
        self.adam_g.step()
        fake_a = torch.from_numpy(np.stack(pool_a.query(fake_a.numpy())))
        fake_b = torch.from_numpy(np.stack(pool_b.query(fake_b.numpy())))
        terms_d = self.discriminator_terms(real_a, real_b, fake_a, fake_b)
        self.adam_d.zero_grad()
        sum(terms_d.values()).backward()
        self.adam_d.step()
        return {name: value.item() for name, value in {**terms_g, **terms_d}.items()}


def copy_weights(cell, module):
    """MindSpore's values into PyTorch's parameters of the same names."""
    values = {
        name: torch.from_numpy(np.array(p.asnumpy())) for name, p in cell.parameters_and_names()
    }
    module.load_state_dict(values, strict=True)
    return module
