"""Information shared by the fused image and its sources: Q_MI, Q_NCIE, Q_TE and Q_FMI.

The first three read the joint grey-level histogram of two images, each first stretched to 0..255
as the reference does; Q_FMI is feature mutual information in 3×3 windows (Fast-FMI on pixels).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from utils.metrics.core import shared, stretched

CHUNK = 1024  # windows at a time: 81 float32 values each stay within a core's cache


@shared
def joint_histogram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Joint probabilities, (256, 256), of the grey levels of two images after stretching."""
    pairs = stretched(a).astype(np.intp) * 256 + stretched(b).astype(np.intp)
    return np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256) / a.size


def entropy(p: np.ndarray) -> float:
    """Shannon entropy of probabilities, in bits."""
    p = p[p > 0]
    return np.abs((p * np.log2(p)).sum())  # abs: 0.0, not −0.0, for a constant image


@shared
def mutual_information(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Mutual information of two images and the entropy of each, in bits."""
    joint = joint_histogram(a, b)
    entropy_a, entropy_b = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))
    return entropy_a + entropy_b - entropy(joint), entropy_a, entropy_b


def q_mi(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_MI = Σ_k 2·I(S_k;F) / (H(S_k)+H(F)) (Hossny et al.); nan if two images are constant."""
    total = 0.0
    for source in sources:
        information, *entropies = mutual_information(source, fused)
        total += 2 * information / sum(entropies) if sum(entropies) > 0 else np.nan
    return total


def q_ncie(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_NCIE = 1 + Σ (λ/K) log₂(λ/K) / 8, λ the eigenvalues of the K×K matrix R.

    R has ones on its diagonal and the mutual information (base 256) of each two of the K images,
    sources and fused, elsewhere.
    """
    images = [*sources, fused]
    correlation = np.eye(len(images))
    for i, j in itertools.combinations(range(len(images)), 2):
        correlation[i, j] = correlation[j, i] = mutual_information(images[i], images[j])[0] / 8
    share = np.linalg.eigvalsh(correlation) / len(images)
    return 1 - entropy(share) / 8


def q_te(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_TE = Σ_k (1 − Σ p(s,f)^q / (p(s)p(f))^(q−1)) / (1−q), q = 1.85 (Cvejic et al.)."""
    total, q = 0.0, 1.85
    for source in sources:
        joint = joint_histogram(source, fused)
        # The marginals are exchanged, as in the reference and so in published values.
        independent = np.outer(joint.sum(axis=0), joint.sum(axis=1))
        occurs = (joint > 0) & (independent > 0)
        ratio = (joint[occurs] / independent[occurs]) ** (q - 1)
        total += (1 - (joint[occurs] * ratio).sum()) / (1 - q)
    return total


def _windows(grey: np.ndarray) -> np.ndarray:
    """(9, n): the pixels of every 3×3 window, down the columns first as Matlab reads them."""
    view = sliding_window_view(grey.astype(np.float32), (3, 3))
    return view.transpose(3, 2, 0, 1).reshape(9, -1)


def _probabilities(windows: np.ndarray) -> np.ndarray:
    """Each window stretched to 0..1 and divided by its sum; flat windows become uniform."""
    low, high = windows.min(axis=0), windows.max(axis=0)
    flat = high == low
    stretched = np.where(flat, 1, (windows - low) / np.where(flat, 1, high - low))
    return stretched / stretched.sum(axis=0)


def _window_entropy(p: np.ndarray) -> np.ndarray:
    """Entropy over all axes but the last; |p| because a joint value may be below 0.

    In nats: the base cancels in the normalised information, and NumPy's float32 ``log`` is faster.
    """
    terms = np.abs(p)
    terms += np.float32(1e-30)
    np.log(terms, out=terms)
    terms *= p
    return -terms.sum(axis=tuple(range(p.ndim - 1)))


def _spread(p: np.ndarray) -> np.ndarray:
    """Standard deviation of the index 1..9 under the distribution ``p``."""
    index = np.arange(1, len(p) + 1, dtype=p.dtype)[:, None]
    mean = (index * p).sum(axis=0)
    return np.sqrt((p * (index - mean) ** 2).sum(axis=0))


def window_information(a: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Normalised mutual information 2·I/(H_a+H_f) of two sets of windows, each (9, n).

    A window is read as a distribution over its nine places. Two windows of correlation c have the
    joint distribution φ·C + (1−φ)·p_a·p_f, C the Fréchet bound on the side of c and φ = c/c_max
    (Nelsen). A negative c is the positive case with one window's places reversed.
    """
    p_a, p_f = _probabilities(a), _probabilities(f)
    d_a, d_f = p_a - np.float32(1 / 9), p_f - np.float32(1 / 9)
    power = (d_a**2).sum(axis=0) * (d_f**2).sum(axis=0)
    c = (d_a * d_f).sum(axis=0) / np.sqrt(np.where(power > 0, power, np.float32(1)))
    p_a = np.where(c < 0, p_a[::-1], p_a)
    high_a, high_f = (np.minimum(p.cumsum(axis=0), 1) for p in (p_a, p_f))
    low_a, low_f = high_a - p_a, high_f - p_f
    joint = np.minimum(high_a, high_f[:, None])
    bound = joint.sum(axis=(0, 1)) - high_a.sum(axis=0) * high_f.sum(axis=0)
    limit = bound / np.maximum(_spread(p_a) * _spread(p_f), np.float32(1e-12))
    phi = np.where(limit > 1e-6, np.abs(c) / np.maximum(limit, np.float32(1e-6)), np.float32(0))
    joint -= np.maximum(low_a, low_f[:, None])
    np.maximum(joint, 0, out=joint)
    joint *= phi
    joint += p_a * ((1 - phi) * p_f)[:, None]
    marginals = _window_entropy(p_a) + _window_entropy(p_f)
    information = marginals - _window_entropy(joint)
    return np.where(marginals > 1e-6, 2 * information / np.maximum(marginals, np.float32(1e-6)), 0)


def q_fmi(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_FMI = mean over 3×3 windows and sources of 2·I/(H_S+H_F); 1 where the windows are equal."""
    windows_f = _windows(fused)
    total = 0.0
    for source in sources:
        windows_s = _windows(source)
        differ = np.flatnonzero((windows_s != windows_f).any(axis=0))
        total += windows_f.shape[1] - differ.size
        for start in range(0, differ.size, CHUNK):
            chosen = differ[start : start + CHUNK]
            total += window_information(windows_s[:, chosen], windows_f[:, chosen]).sum(dtype=float)
    return total / (len(sources) * windows_f.shape[1])
