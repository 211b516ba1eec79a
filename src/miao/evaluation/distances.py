"""How far two sets of embeddings lie apart: Fréchet and kernel distances of sets, and the frame-by-frame distance.

| function | metric | what is compared | unit | range, best |
|---|---|---|---|---|
| frechet_distance | FAD | a Gaussian over all frames of each set | squared embedding unit | 0 up, 0 |
| frechet_infinity | FAD∞ | the same, for sets without end | squared embedding unit | about 0 up, 0 |
| kernel_distance | KAD, MMD² | the distributions themselves | none | about 0 to 2, 0 |
| relative_embedding_distance | RED | each frame with its own counterpart | embedding unit | 0 up, 0 |

Embeddings are [n, D]: n frames, a row each, of one embedder (embedders.py), whose name belongs to the metric's: numbers
of two embedders cannot be compared, and no number here is a number of the paper's, which does not name its own.

Bias. The Fréchet distance of two samples of one distribution is not 0 but falls like 1/n towards it, and slowly: with
fewer frames than dimensions it says more about n than about sound. Hence the extrapolation, and hence the floor: what
two halves of the reference, which hold other music by the same players, are apart. A value near the floor says "as
alike as the reference is to itself"; below it, "plays the same music". The kernel distance is unbiased at every n (and
so may come out a little below 0); prefer it where n is small. RED is a mean over frames and has no such bias, but asks
that both sounds play the same notes at the same time.
"""

from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Reals

FIT_SIZES = 6  # subset sizes that the extrapolation is fitted to
FIT_DRAWS = 4  # subsets of each size
SMALLEST_PART = 0.25  # the smallest subset's part of all frames
FEWEST_FRAMES = 16  # fewer are not extrapolated from
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class FrechetFit:
    """A Fréchet distance freed of the bias of its sample size, as far as that can be."""

    value: float  # extrapolated to infinitely many frames
    floor: float  # the same between two halves of the reference
    plain: float  # frechet_distance at n frames
    plain_floor: float  # the same between two halves of the reference, each of half its frames
    n: int  # frames of the smaller set


def frechet_distance(a: Reals, b: Reals) -> float:
    """Fréchet distance of two Gaussians fitted to embeddings: |μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½).

    Unit: squared embedding unit. Range: 0 to infinity, 0 is best. Symmetric. Source: Heusel et al. 2017 (FID), Kilgour
    et al. 2019 (FAD). Σ is the unbiased covariance (n - 1), as in both their programs.

    Differs from other tools in how the root's trace is found: they take the root of the matrix product, and add to its
    diagonal or drop imaginary parts where it is near singular, which it always is with fewer frames than dimensions.
    Here it is the sum of the singular values of Xa Xbᵀ, X being the centred frames over √(n-1), which is the same
    number, exact at any n.

    Shapes: [n, D] and [m, D]. Raises: ValueError unless both are so, with n, m >= 2.
    """
    a, b = _frames(a, b)
    shift = a.mean(axis=0) - b.mean(axis=0)
    roots = [_root(x) for x in (a, b)]
    spread = sum(float(np.square(root).sum()) for root in roots)
    common = float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())
    return max(float(shift @ shift) + spread - 2 * common, 0.0)


def frechet_infinity(
    reference: Reals, rendered: Reals, *, sizes: int = FIT_SIZES, draws: int = FIT_DRAWS, seed: int = 0
) -> FrechetFit:
    """The Fréchet distance that infinitely many frames would show, with the floor beside it.

    Unit and range as `frechet_distance`, but noise may carry it a little below 0. The distance of random subsets of
    both sets is fitted by a straight line over 1/n, from a quarter of the frames to all of them; the value is where it
    meets 1/n = 0. Source: Chong & Forsyth 2020 (FID∞), Gui et al. 2024 (FAD∞). Those shrink the evaluated set only and
    keep the reference whole, which leaves the reference's own bias in; here both shrink together.

    Sets of the same length are taken to be frames of the same music in the same order and are drawn in pairs: what both
    owe to the choice of music then cancels, and equal sets are at 0, as they should be. Frames that follow one another
    are not independent, so that the true n is smaller; the floor suffers from the same, which is why it is given.

    Shapes: [n, D] and [m, D]. Raises: ValueError as `frechet_distance`, or if there are fewer than 16 frames.
    """
    reference, rendered = _frames(reference, rendered)
    n = min(len(reference), len(rendered))
    if n < FEWEST_FRAMES:
        raise ValueError(f"frechet_infinity: {n} frames are too few; it takes {FEWEST_FRAMES}")
    random = np.random.default_rng(seed)
    order = random.permutation(len(reference))
    halves = reference[order[: len(order) // 2]], reference[order[len(order) // 2 : len(order) // 2 * 2]]
    return FrechetFit(
        _extrapolated(reference, rendered, sizes, draws, random), _extrapolated(*halves, sizes, draws, random),
        frechet_distance(reference, rendered), frechet_distance(*halves), n,
    )  # fmt: skip


def kernel_distance(reference: Reals, rendered: Reals) -> float:
    """Squared maximum mean discrepancy of two sets of embeddings, unbiased, with a Gaussian kernel.

    MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y), k(u, v) = exp(-|u - v|² / 2σ²), σ the median distance between two
    frames of the reference. Unit: none. Range: about 0 to 2, 0 is best; an estimate may be a little below 0. Not
    symmetric: the reference sets the scale. Source: Gretton et al. 2012; as a metric of sound Chung et al. 2025 (KAD),
    whose program prints 100 times this.

    Why Gaussian and not KID's (x·y/D + 1)³: it sees any difference of two distributions, the cubic only that of their
    first three moments; it is bounded, so that a few odd frames do not decide; and with the median for its width it
    does not depend on the embedder's scale.

    Sets of the same length are taken to be frames of the same music in the same order: a frame and its own counterpart
    are then left out of E k(x, y) as a frame and itself are left out of the others. It stays unbiased, and equal sets
    are at 0 exactly (KAD's program puts them below 0).

    Shapes: [n, D] and [m, D]. Raises: ValueError unless n, m >= 2, or if all frames of the reference are alike.
    """
    reference, rendered = _frames(reference, rendered)
    width = _median_distance(reference)
    if width == 0:
        raise ValueError("kernel_distance: all frames of the reference are alike; they set no scale")
    is_paired = len(reference) == len(rendered)
    within = [_kernel_mean(x, x, width, without_pairs=True) for x in (reference, rendered)]
    return within[0] + within[1] - 2 * _kernel_mean(reference, rendered, width, without_pairs=is_paired)


def relative_embedding_distance(reference: Reals, rendered: Reals) -> float:
    """RED of the paper: the mean over frames of the L2 distance between a frame and its counterpart.

    Unit: the embedder's. Range: 0 to infinity, 0 is best. Symmetric. The longer set is cut to the shorter one's length.
    Over several pieces take the mean of their values. Source: Hawthorne et al. 2022, who call it reconstruction
    embedding distance and take VGGish and TRILL. It has no bias in n, as it compares pairs and fits nothing; its floor
    is 0. But it punishes other timing and other takes of the same sound too: two renderings by one player are not at 0.

    Shapes: [n, D] and [m, D]. Raises: ValueError unless both hold a frame.
    """
    reference, rendered = _frames(reference, rendered, fewest=1)
    n = min(len(reference), len(rendered))
    return float(np.linalg.norm(reference[:n] - rendered[:n], axis=1).mean())


def _frames(a: Reals, b: Reals, fewest: int = 2) -> tuple[Reals, Reals]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"embeddings are [n, D] with one D, not of shapes {a.shape} and {b.shape}")
    if min(len(a), len(b)) < fewest:
        raise ValueError(f"{len(a)} and {len(b)} frames of embeddings are too few; it takes {fewest} of each")
    return a, b


def _root(x: Reals) -> Doubles:
    """R with Rᵀ R the covariance of the frames, [min(n, D), D]."""
    centred = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(x) > x.shape[1] else centred


def _extrapolated(a: Reals, b: Reals, sizes: int, draws: int, random: np.random.Generator) -> float:
    """Where the line through the distances of subsets over 1/n meets 0."""
    n = min(len(a), len(b))
    is_paired = len(a) == len(b)
    inverse, distances = [], []
    for size in np.rint(1 / np.linspace(1 / (SMALLEST_PART * n), 1 / n, sizes)).astype(int):
        for _ in range(draws):
            rows = random.permutation(len(a))[:size]
            others = rows if is_paired else random.permutation(len(b))[:size]
            inverse.append(1 / size)
            distances.append(frechet_distance(a[rows], b[others]))
            if size == len(a) == len(b):
                break  # all of it is always the same
    return float(np.polynomial.Polynomial.fit(inverse, distances, 1)(0.0))


def _median_distance(x: Reals) -> float:
    """The median distance between two frames; of those that differ, should most be alike."""
    squares = np.concatenate([_squared_distances(x[i : i + 1], x[i + 1 :])[0] for i in range(len(x) - 1)])
    median = float(np.median(squares))
    apart = squares[squares > 1e-12 * squares.max()]
    return float(np.sqrt(median if median > 1e-12 * squares.max() else np.median(apart))) if len(apart) else 0.0


def _kernel_mean(a: Reals, b: Reals, width: float, without_pairs: bool) -> float:
    """The mean of the kernel over all pairs of frames, without those of the same number if so asked."""
    total = 0.0
    for start in range(0, len(a), _BLOCK_ROWS):
        kernel = np.exp(-_squared_distances(a[start : start + _BLOCK_ROWS], b) / (2 * width**2))
        if without_pairs:
            np.fill_diagonal(kernel[:, start:], 0.0)
        total += float(kernel.sum())
    return total / (len(a) * (len(b) - without_pairs))


def _squared_distances(a: Reals, b: Reals) -> Doubles:
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None] - 2 * a @ b.T
    distances: Doubles = np.maximum(squares, 0.0)
    return distances
