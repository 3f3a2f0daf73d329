"""Information shared by the fused image and its sources: Q_MI, Q_NCIE and Q_TE.

All three read the joint grey-level histogram of two images, each first stretched to 0..255 as the
reference does. They extend to any number of sources.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from utils.metrics.core import LIU, Metric, shared, stretched


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


def q_te(sources: Sequence[np.ndarray], fused: np.ndarray, q: float = 1.85) -> float:
    """Q_TE = Σ_k (1 − Σ p(s,f)^q / (p(s)p(f))^(q−1)) / (1−q) (Cvejic et al., q = 1.85)."""
    total = 0.0
    for source in sources:
        joint = joint_histogram(source, fused)
        independent = np.outer(joint.sum(axis=0), joint.sum(axis=1))
        occurs = (joint > 0) & (independent > 0)
        ratio = (joint[occurs] / independent[occurs]) ** (q - 1)
        total += (1 - (joint[occurs] * ratio).sum()) / (1 - q)
    return total


HOSSNY = "M. Hossny, S. Nahavandi, D. Creighton, Electron. Lett. 44 (2008)"
WANG = "Q. Wang, Y. Shen, J. Jin, in Image Fusion: Algorithms and Applications (2008)"
CVEJIC = "N. Cvejic, C. N. Canagarajah, D. R. Bull, Electron. Lett. 42 (2006)"
MI, NCIE, TE = (LIU + code for code in ("metricMI.m (1)", "metricWang.m", "metricMI.m (2)"))
NCIE_NAME = "nonlinear correlation information entropy"
TE_NAME = "mutual information by Tsallis entropy"
METRICS = (
    Metric("normalised mutual information", "Q_MI", (0, np.inf), "sources", HOSSNY, MI, q_mi),
    Metric(NCIE_NAME, "Q_NCIE", (0, 1), "sources", WANG, NCIE, q_ncie),
    Metric(TE_NAME, "Q_TE", (0, np.inf), "sources", CVEJIC, TE, q_te),
)
