"""Information shared by the fused image and its sources: Q_MI, Q_NCIE and Q_TE.

All three read the joint grey-level histogram of two images, each first stretched to 0..255 as the
reference does. They extend to any number of sources.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from utils.metrics.core import Metric, shared, stretched


@shared
def joint_histogram(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Joint probabilities, (256, 256), of the grey levels of two images after stretching."""
    pairs = stretched(a).astype(np.intp) * 256 + stretched(b).astype(np.intp)
    return np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256) / a.size


def entropy(p: np.ndarray) -> float:
    """Shannon entropy of probabilities, in bits."""
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


@shared
def mutual_information(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Mutual information of two images and the entropy of each, in bits."""
    joint = joint_histogram(a, b)
    entropy_a, entropy_b = entropy(joint.sum(axis=1)), entropy(joint.sum(axis=0))
    return entropy_a + entropy_b - entropy(joint), entropy_a, entropy_b


def normalised_mutual_information(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
    """Q_MI = Σ_k 2·I(S_k;F) / (H(S_k)+H(F)) (Hossny et al.); nan if two images are constant."""
    total = 0.0
    for source in sources:
        information, *entropies = mutual_information(source, fused)
        total += 2 * information / sum(entropies) if sum(entropies) > 0 else np.nan
    return total


def nonlinear_correlation(sources: Sequence[np.ndarray], fused: np.ndarray) -> float:
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


def tsallis_information(sources: Sequence[np.ndarray], fused: np.ndarray, q: float = 1.85) -> float:
    """Q_TE = Σ_k (1 − Σ p(s,f)^q / (p(s)p(f))^(q−1)) / (1−q) (Cvejic et al., q = 1.85)."""
    total = 0.0
    for source in sources:
        joint = joint_histogram(source, fused)
        independent = np.outer(joint.sum(axis=0), joint.sum(axis=1))
        occurs = (joint > 0) & (independent > 0)
        ratio = (joint[occurs] / independent[occurs]) ** (q - 1)
        total += (1 - (joint[occurs] * ratio).sum()) / (1 - q)
    return total


REFERENCE = "zhengliu6699/imageFusionMetrics {}"

METRICS = (
    Metric(
        name="normalised mutual information",
        symbol="Q_MI",
        range=(0.0, np.inf),
        needs="sources",
        citation="M. Hossny, S. Nahavandi, D. Creighton, Electron. Lett. 44 (2008)",
        reference=REFERENCE.format("metricMI.m (1)"),
        function=normalised_mutual_information,
    ),
    Metric(
        name="nonlinear correlation information entropy",
        symbol="Q_NCIE",
        range=(0.0, 1.0),
        needs="sources",
        citation="Q. Wang, Y. Shen, J. Jin, in Image Fusion: Algorithms and Applications (2008)",
        reference=REFERENCE.format("metricWang.m"),
        function=nonlinear_correlation,
    ),
    Metric(
        name="mutual information by Tsallis entropy",
        symbol="Q_TE",
        range=(0.0, np.inf),
        needs="sources",
        citation="N. Cvejic, C. N. Canagarajah, D. R. Bull, Electron. Lett. 42 (2006)",
        reference=REFERENCE.format("metricMI.m (2)"),
        function=tsallis_information,
    ),
)
