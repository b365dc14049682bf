#!/usr/bin/env python
"""Draw the sample data set: shaded apples and oranges, two unpaired domains.

    python data/draw_sample.py data/sample

Apples are red to green, streaked, glossy, dented at the top, with a stem; oranges are orange,
pored, matt, round, with a navel. The same seed draws the same pixels.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 96
COUNTS = {"trainA": 64, "trainB": 60, "testA": 8, "testB": 8}
LIGHT = np.array([-0.45, -0.6, 0.66])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder to make, must not exist")
    output = parser.parse_args().output
    if output.exists():
        parser.error(f"{output} exists; remove it first")
    for number, (split, count) in enumerate(COUNTS.items()):
        (output / split).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([number, index])
            image = draw_scene("apple" if split.endswith("A") else "orange", rng)
            image.save(output / split / f"{index:03d}.jpg", quality=90)


def draw_scene(kind: str, rng: np.random.Generator) -> Image.Image:
    """One to three fruits on a table, SIZE x SIZE, drawn twice as large and reduced."""
    size = 2 * SIZE
    canvas = background(size, rng)
    count = rng.choice([1, 1, 1, 2, 3])
    radius = size * {1: rng.uniform(0.28, 0.4), 2: 0.23, 3: 0.19}[int(count)]
    spread = {1: [0.5], 2: [0.28, 0.72], 3: [0.22, 0.5, 0.78]}[int(count)]
    for x in spread:
        center = size * np.array([x, 0.56]) + rng.normal(0, 0.03 * size, 2)
        draw_fruit(canvas, kind, center, radius * rng.uniform(0.9, 1.08), rng)
    pixels = (np.clip(canvas, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def background(size, rng):
    """A wall above a table, both softly mottled: (size, size, 3) in [0, 1]."""
    palette = np.array(
        [
            (0.85, 0.83, 0.78),
            (0.55, 0.60, 0.66),
            (0.33, 0.38, 0.34),
            (0.62, 0.50, 0.40),
            (0.90, 0.90, 0.92),
        ]
    )
    wall, table = palette[rng.choice(len(palette), 2, replace=False)]
    y = np.linspace(0, 1, size)[:, None, None]
    edge = rng.uniform(0.35, 0.7)
    blend = 1 / (1 + np.exp(-(y - edge) * 40))
    canvas = wall * (1 - blend) + table * blend
    canvas = canvas * (1 + 0.05 * noise(size, 48, rng)[..., None])
    return canvas * (0.85 + 0.25 * y)


def noise(size, cell, rng):
    """Smooth noise of unit variance with features `cell` pixels wide: (size, size)."""
    coarse = Image.fromarray(rng.normal(size=(size // cell + 2,) * 2).astype(np.float32))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return smooth / smooth.std()


def draw_fruit(canvas, kind, center, radius, rng):
    """Paint one fruit and its shadow into the canvas."""
    size = len(canvas)
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns - center[0]) / radius, (rows - center[1]) / radius
    angle, distance = np.arctan2(x, -y), np.hypot(x, y)  # angle 0 is up
    if kind == "apple":
        # A dent at the top, shoulders beside it, narrower towards the bottom.
        outline = 1 - 0.24 * np.exp(-((angle / 0.38) ** 2)) + 0.07 * np.cos(angle)
        outline -= 0.1 * np.exp(-(((np.abs(angle) - np.pi) / 0.5) ** 2))
    else:
        outline = 0.95 + 0.012 * np.cos(2 * angle + rng.uniform(0, 6)) + 0 * angle
    shadow = np.exp(-(((x - 0.35) / 1.1) ** 2) - ((y - 0.88) / 0.24) ** 2)
    canvas *= 1 - 0.55 * shadow[..., None]

    inside = np.clip((outline - distance) * radius / 1.5 + 0.5, 0, 1)[..., None]
    reach = np.clip(distance / outline, 0, 1)
    depth = np.sqrt(1 - reach**2)
    normal = np.stack([x / outline, y / outline, depth], -1)
    if kind == "orange":
        pores = noise(size, 3, rng)
        normal[..., 0] += 0.1 * np.gradient(pores, axis=1)
        normal[..., 1] += 0.1 * np.gradient(pores, axis=0)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
    lit = np.clip(normal @ LIGHT, 0, 1)
    mirror = np.clip(2 * lit * normal[..., 2] - LIGHT[2], 0, 1)

    if kind == "apple":
        longitude = np.arctan2(x, depth + 0.05)  # streaks run from the dent around the fruit
        skin, gloss = apple_skin(longitude, angle, reach, size, rng), 0.75
    else:
        skin, gloss = orange_skin(reach, size, rng), 0.22
    shade = (0.3 + 0.8 * lit)[..., None] * skin + (gloss * mirror**30)[..., None]
    canvas *= 1 - inside
    canvas += shade * inside
    if kind == "apple":
        draw_stem(canvas, center, radius, rng)
    else:
        spot = np.exp(-(((x - 0.12) ** 2 + (y + 0.62) ** 2) / 0.012))[..., None]
        rays = 0.6 + 0.4 * np.cos(5 * np.arctan2(y + 0.62, x - 0.12))[..., None]
        canvas += (np.array([0.32, 0.36, 0.1]) - canvas) * spot * rays


def apple_skin(longitude, angle, reach, size, rng):
    """Red with lengthwise streaks, yellow-green towards the dent."""
    red = np.array([0.74, 0.07, 0.09]) + rng.normal(0, 0.04, 3)
    pale = np.array([0.8, 0.74, 0.28]) + rng.normal(0, 0.05, 3)
    phases, strengths = rng.uniform(0, 6.28, 4), rng.uniform(0.3, 1, 4)
    streaks = sum(
        strength * np.cos(frequency * longitude + phase)
        for frequency, phase, strength in zip((5, 9, 16, 25), phases, strengths)
    )
    dent = np.exp(-((angle / 0.8) ** 2)) * reach
    share = 1 / (1 + np.exp(streaks * 0.9 + 2.6 + rng.uniform(-0.9, 0.9) - 3.2 * dent))
    share = np.clip(share + 0.03 * noise(size, 4, rng), 0, 1)[..., None]
    return red * (1 - share) + pale * share


def orange_skin(reach, size, rng):
    """Orange, finely mottled, a little paler towards the middle."""
    base = np.array([0.96, 0.5, 0.05]) + rng.normal(0, 0.025, 3)
    mottle = 1 + 0.045 * noise(size, 3, rng) + 0.03 * noise(size, 16, rng)
    return base * mottle[..., None] + 0.05 * (1 - reach)[..., None]


def draw_stem(canvas, center, radius, rng):
    """A bent brown stem, and now and then a leaf."""
    size = len(canvas)
    lean = rng.uniform(-0.25, 0.35)
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    top = (center[0] + lean * radius, center[1] - 1.15 * radius)
    base = (center[0], center[1] - 0.68 * radius)
    draw.line([base, top], fill=255, width=max(3, int(radius * 0.09)))
    blend(canvas, mask, (0.3, 0.19, 0.1))
    if rng.random() < 0.5:
        leaf = Image.new("L", (size, size))
        x, y = base[0] + lean * radius * 0.5, base[1] - 0.3 * radius
        corners = [(0, 0), (0.35, -0.22), (0.7, -0.1), (0.4, 0.05)]
        points = [(x + dx * radius, y + dy * radius) for dx, dy in corners]
        ImageDraw.Draw(leaf).polygon(points, fill=255)
        blend(canvas, leaf, (0.25, 0.45, 0.14))


def blend(canvas, mask, color):
    """Lay a colour over the canvas where the softened mask is white."""
    weight = np.asarray(mask.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None] / 255
    canvas += (np.array(color) - canvas) * weight


if __name__ == "__main__":
    main()
