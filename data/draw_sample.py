#!/usr/bin/env python
"""Draw the sample data set: shaded apples and oranges, two unpaired domains.

    python data/draw_sample.py data/sample

Apples are red to green, streaked, glossy, dented where the stem is; oranges are orange, pored,
matt, round, with a navel. Light, table, wall and arrangement vary. The same seed draws the same
pixels.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 128
COUNTS = {"trainA": 64, "trainB": 60, "testA": 8, "testB": 8}
COLORS = np.array(
    [
        (0.85, 0.83, 0.78), (0.93, 0.93, 0.95), (0.55, 0.60, 0.66), (0.30, 0.36, 0.36),
        (0.60, 0.47, 0.36), (0.14, 0.14, 0.17), (0.72, 0.66, 0.52), (0.42, 0.50, 0.60),
    ]
)  # fmt: skip
"""Of walls and tables."""


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
    """One to five fruits on a table, SIZE x SIZE, drawn twice as large and reduced."""
    size = 2 * SIZE
    light = unit([rng.uniform(-0.9, 0.9), rng.uniform(0.5, 1.2), rng.uniform(0.4, 1.1)])
    canvas = background(size, rng)
    count = int(rng.choice([1, 1, 2, 3, 5]))
    radius = size * {1: 0.34, 2: 0.25, 3: 0.2, 5: 0.15}[count] * rng.uniform(0.9, 1.15)
    places = [
        (x + rng.normal(0, 0.015), 0.52 + depth + rng.normal(0, 0.015), 0.85 + 0.9 * depth)
        for x, depth in arrangement(count, rng)
    ]
    for x, y, nearness in sorted(places, key=lambda place: place[1]):  # the far ones first
        draw_fruit(canvas, kind, size * np.array([x, y]), radius * nearness, light, rng)
    tint = 1 + np.array([0.06, 0.0, -0.08]) * rng.uniform(-1, 1)  # daylight to lamp
    pixels = (np.clip(canvas * tint, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def arrangement(count, rng):
    """Places of fruits: from left to right, and how much nearer than the middle of the table."""
    if count == 1:
        return [(rng.uniform(0.4, 0.6), 0.04)]
    if count == 2:
        return [(0.3, rng.uniform(-0.06, 0.12)), (0.7, rng.uniform(-0.06, 0.12))]
    if count == 3:
        return [(0.26, 0.1), (0.74, 0.08), (rng.uniform(0.4, 0.6), -0.14)]
    return [(0.16, -0.06), (0.5, -0.14), (0.84, -0.05), (0.33, 0.12), (0.69, 0.14)]


def background(size, rng):
    """A wall above a table of boards, cloth or one colour: (size, size, 3) in [0, 1]."""
    wall, table = COLORS[rng.choice(len(COLORS), 2, replace=False)]
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    edge = rng.uniform(0.2, 0.5)
    if rng.random() < 0.25:  # a studio, without an edge
        wall, edge = table * 1.05, 0.4
    below = (1 / (1 + np.exp(-(y - edge) * 60)))[..., None]
    near = np.clip((y - edge) / (1 - edge), 0.02, 1)
    pattern = np.zeros((size, size))
    cover = rng.choice(["plain", "boards", "cloth"])
    across, along = (x - 0.5) / (0.4 + near), 1 / (0.25 + near)  # wider and longer when near
    if cover == "boards":
        grain = np.sin(60 * across + 3 * noise(size, 60, rng))
        pattern = 0.05 * grain - 0.25 * (np.abs((across * 5) % 1 - 0.5) > 0.47)
    elif cover == "cloth":
        stripes = (np.sin(30 * across) > 0.2).astype(float) + (np.sin(14 * along) > 0.2)
        pattern = 0.09 * (stripes - 1)
    canvas = wall * (1 - below) + table * (1 + pattern[..., None]) * below
    canvas = canvas * (1 + 0.04 * noise(size, 48, rng)[..., None])
    vignette = 1 - 0.25 * ((x - rng.uniform(0.3, 0.7)) ** 2 + (y - 0.4) ** 2)
    return canvas * vignette[..., None]


def noise(size, cell, rng):
    """Smooth noise of unit variance with features `cell` pixels wide: (size, size)."""
    coarse = Image.fromarray(rng.normal(size=(size // cell + 2,) * 2).astype(np.float32))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return smooth / smooth.std()


def draw_fruit(canvas, kind, center, radius, light, rng):
    """Paint one fruit and its shadow into the canvas."""
    size = len(canvas)
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns - center[0]) / radius, (center[1] - rows) / radius  # y is up
    axis = unit([rng.normal(0, 0.35), 1.0, rng.uniform(-0.1, 1.2)])
    if kind == "orange":
        axis = unit([*rng.normal(0, 0.5, 2), rng.uniform(-0.5, 1)])
    cast = np.array([-0.75, 0.0]) * light[0] / light[1] + np.array([0.0, -0.86])
    for width, strength in ((1.15, 0.35), (0.75, 0.45)):  # of the sky, and where it stands
        reach = ((x - cast[0]) / width) ** 2 + ((y - cast[1]) / (0.3 * width)) ** 2
        canvas *= 1 - strength * np.exp(-(reach**1.5))[..., None]

    depth, hit = surface(kind, x, y, axis)
    point = np.stack([x, y, depth], -1)
    normal = np.stack([-np.gradient(depth, axis=1), np.gradient(depth, axis=0)], -1) * radius
    normal = np.concatenate([normal, np.ones_like(depth)[..., None]], -1)
    if kind == "orange":
        pores = noise(size, 3, rng)
        normal[..., 0] += 0.22 * np.gradient(pores, axis=1)
        normal[..., 1] += 0.22 * np.gradient(pores, axis=0)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    polar, longitude = angles(point, axis)
    lit = np.clip(normal @ light, 0, 1)
    between = unit(light + np.array([0, 0, 1]))
    shine = np.clip(normal @ between, 0, 1)
    sky = 0.75 + 0.25 * normal[..., 1]
    if kind == "apple":
        skin = apple_skin(point, polar, longitude, size, rng)
        gloss = 0.65 * shine**70 + 0.12 * shine**12
        hollow = 1 - 0.6 * np.exp(-((polar / 0.4) ** 2))
    else:
        skin = orange_skin(polar, longitude, size, rng)
        gloss = 0.16 * shine**14
        hollow = 1 - 0.5 * np.exp(-((polar / 0.1) ** 2))
    shade = (0.38 * sky + 0.75 * lit)[..., None] * skin * hollow[..., None] + gloss[..., None]
    cover = np.asarray(
        Image.fromarray((hit * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    )[..., None]
    if kind == "apple" and axis[2] < 0.05:
        draw_stem(canvas, center, radius, axis, rng)
    canvas += (shade - canvas) * (cover / 255)
    if kind == "apple" and axis[2] >= 0.05:
        draw_stem(canvas, center, radius, axis, rng)


def surface(kind, x, y, axis):
    """Look along z at a fruit around 0: the depth that is seen, and where there is any."""
    depth = np.full(x.shape, 1.2)
    for _ in range(40):
        point = np.stack([x, y, depth], -1)
        polar, longitude = angles(point, axis)
        depth = depth - 0.5 * (np.linalg.norm(point, axis=-1) - shape(kind, polar, longitude))
        depth = np.clip(depth, -1.2, 1.2)
    point = np.stack([x, y, depth], -1)
    gap = np.linalg.norm(point, axis=-1) - shape(kind, *angles(point, axis))
    hit = gap < 0.03
    return np.where(hit, depth, 0), hit


def angles(point, axis):
    """Return the angle from the axis, and that around it."""
    side = unit(np.cross(axis, [0.31, 0.2, 0.93]))
    along = point @ axis
    a, b = point @ side, point @ np.cross(axis, side)
    return np.arctan2(np.hypot(a, b), along), np.arctan2(b, a)


def shape(kind, polar, longitude):
    """Radius of a fruit by the angle from its axis, and around it."""
    if kind == "orange":
        return 0.96 - 0.04 * np.cos(polar) ** 2 - 0.05 * np.exp(-((polar / 0.12) ** 2))
    dent = 0.42 * np.exp(-((polar / 0.4) ** 2)) + 0.2 * np.exp(-(((np.pi - polar) / 0.4) ** 2))
    lobes = 0.02 * np.cos(5 * longitude) * np.sin(polar / 2) ** 6
    return 0.95 + 0.07 * np.cos(polar) - dent + lobes


def unit(vector):
    return np.asarray(vector, float) / np.linalg.norm(vector)


def apple_skin(point, polar, longitude, size, rng):
    """Red with lengthwise streaks, yellow-green towards the stem and on the shaded cheek."""
    red = np.array([0.72, 0.06, 0.09]) + rng.normal(0, 0.05, 3)
    pale = np.array([0.78, 0.74, 0.25]) + rng.normal(0, 0.06, 3)
    phases, strengths = rng.uniform(0, 6.28, 4), rng.uniform(0.3, 1, 4)
    streaks = sum(
        strength * np.cos(frequency * longitude + phase)
        for frequency, phase, strength in zip((5, 9, 17, 29), phases, strengths)
    )
    cheek = point @ unit(rng.normal(size=3))
    ripe = rng.choice([2.8, 2.0, 0.6])
    dent = np.exp(-((polar / 0.7) ** 2))
    share = 1 / (1 + np.exp(0.8 * streaks + ripe + 1.2 * cheek - 3 * dent))
    share = np.clip(share + 0.03 * noise(size, 4, rng), 0, 1)[..., None]
    return red * (1 - share) + pale * share


def orange_skin(polar, longitude, size, rng):
    """Orange, finely mottled, green around the navel."""
    base = np.array([0.96, 0.48, 0.05]) + rng.normal(0, 0.03, 3)
    mottle = 1 + 0.04 * noise(size, 3, rng) + 0.03 * noise(size, 20, rng)
    rays = np.exp(-((polar / (0.11 + 0.04 * np.cos(5 * longitude))) ** 2))[..., None]
    return base * mottle[..., None] * (1 - rays) + np.array([0.36, 0.38, 0.12]) * rays


def draw_stem(canvas, center, radius, axis, rng):
    """A bent brown stem, and now and then a leaf."""
    size, flip = len(canvas), np.array([1, -1])
    start = center + radius * 0.55 * axis[:2] * flip
    bend = axis[:2] + rng.normal(0, 0.2, 2)
    end = center + radius * (0.55 * axis[:2] + 0.6 * bend) * flip
    mask = Image.new("L", (size, size))
    width = max(3, int(radius * 0.08))
    ImageDraw.Draw(mask).line([*start, *end], fill=255, width=width)
    blend(canvas, mask, (0.28, 0.18, 0.1))
    if rng.random() < 0.4:
        leaf = Image.new("L", (size, size))
        side = rng.choice([-1, 1])
        corners = [(0, 0), (0.3, -0.2), (0.62, -0.16), (0.75, -0.05), (0.45, 0.06), (0.2, 0.06)]
        points = [
            (start[0] + side * dx * radius, end[1] + (dy + 0.2) * radius) for dx, dy in corners
        ]
        ImageDraw.Draw(leaf).polygon(points, fill=255)
        blend(canvas, leaf, (0.22, 0.42, 0.13))


def blend(canvas, mask, color):
    """Lay a colour over the canvas where the softened mask is white."""
    weight = np.asarray(mask.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None] / 255
    canvas += (np.array(color) - canvas) * weight


if __name__ == "__main__":
    main()
