"""Random streams, smooth random fields and the small filters that both sensors share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
Shape = tuple[int, int]


def generator(*key: int) -> np.random.Generator:
    """The stream of random numbers of ``key``: the same on every machine, independent of all other keys."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def noise(rng: np.random.Generator, shape: Shape, scale: float, octaves: int = 1) -> Floats:
    """Smooth random field of about zero mean and unit standard deviation.

    Cubic B-splines over random knots: only sums and products, so that machines agree to the last bits.

    Args:
        shape: (H, W) in pixels.
        scale: distance of the knots in pixels; halves with each octave, as does the amplitude.

    Returns:
        (H, W) float64.
    """
    total, power = np.zeros(shape), 0.0
    for octave in range(octaves):
        step, gain = max(scale / 2**octave, 1.0), 0.5**octave
        field = rng.standard_normal((int(shape[0] / step) + 5, int(shape[1] / step) + 5))
        for axis in (0, 1):
            # A random phase, so that knots of octaves and fields do not line up.
            position = np.arange(shape[axis]) / step + rng.random()
            knot = position.astype(np.int64)
            f = position - knot
            weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
            field = sum(
                np.take(field, knot + i, axis=axis) * np.expand_dims(w / 6, 1 - axis) for i, w in enumerate(weights)
            )
        # 0.48: mean squared sum of the B-spline weights, once for each axis.
        total += gain * field / 0.48
        power += gain**2
    return np.asarray(total / np.sqrt(power))


def blur(image: Image, side: float, offset: tuple[float, float] = (0.0, 0.0)) -> Image:
    """Blurs (H, W) by three weights along both axes; edges repeat.

    Args:
        side: weight of either neighbour, 0 to 1/3.
        offset: rows and columns, within -side and side, that the result is moved by: it is taken from one neighbour's
            weight and given to the other's, which moves the centre of mass by 2 x offset.
    """
    padded = np.pad(image, 1, mode="edge")
    (up, left), mid = offset, np.float32(1 - 2 * side)
    rows = np.float32(side + up) * padded[:-2] + np.float32(side - up) * padded[2:] + mid * padded[1:-1]
    columns = np.float32(side + left) * rows[:, :-2] + np.float32(side - left) * rows[:, 2:] + mid * rows[:, 1:-1]
    return np.asarray(columns, np.float32)


def wide(image: Image, radius: int) -> Image:
    """(H, W) averaged over squares of 2 radius + 1 pixels; edges repeat."""
    for _ in range(2):
        padded = np.pad(image, ((radius + 1, radius), (0, 0)), mode="edge").astype(np.float64)
        total = np.cumsum(padded, axis=0)
        image = ((total[2 * radius + 1 :] - total[: -2 * radius - 1]) / (2 * radius + 1)).astype(np.float32).T
    return image


def coarse(image: Image, smooth: bool = False) -> Image:
    """(H, W) averaged over 2 x 2 pixels and brought back to 10 m, as the 20 m bands are.

    Args:
        smooth: interpolate between the 20 m pixels (bilinear) instead of repeating them; users do either.
    """
    height, width = image.shape
    even = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) * np.float32(0.25)
    if not smooth:
        return np.repeat(np.repeat(mean, 2, axis=0), 2, axis=1)[:height, :width]
    for _ in range(2):
        padded = np.pad(mean, ((1, 1), (0, 0)), mode="edge")
        near, quarter = np.float32(0.75) * padded[1:-1], np.float32(0.25)
        both = np.stack([near + quarter * padded[:-2], near + quarter * padded[2:]], axis=1)
        mean = both.reshape(-1, both.shape[2]).T
    return np.ascontiguousarray(mean[:height, :width])
