"""The losses, one equation each. All are means over the batch; gradient flows through every argument unless it says not.

Shapes: logits (N, C), features (N, D), centroids (K, D) with K ≤ C. Cross-entropy on the labelled batch is PyTorch's own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def class_centroids(features: Tensor, labels: Tensor) -> Tensor:
    """Mean feature vector of each class that occurs in `labels` (N,), in class order: (K, D), without gradient.

    A class without a labelled image has no row. The report divides by zero there, and its weights are NaN one step later.
    """
    features = features.detach()
    return torch.stack([features[labels == c].mean(dim=0) for c in labels.unique()])


def clustering(features: Tensor, centroids: Tensor) -> Tensor:
    """Euclidean distance from each feature vector to its nearest centroid (the report, clustering loss).

    No gradient flows into the centroids.
    """
    # Differences, not torch.cdist: its matrix form cancels badly when a vector is close to its centroid.
    nearest = torch.cdist(features.detach(), centroids.detach()).argmin(dim=1)
    return (features - centroids.detach()[nearest]).norm(dim=1).mean()


def consistency(logits: Tensor, logits_aug: Tensor) -> Tensor:
    """Mean squared error, over batch and classes, between the softmax outputs of two views of the same images.

    The report's consistency loss; the Π-model's of Laine & Aila (2017), with gradient through both views.
    """
    return F.mse_loss(logits.softmax(dim=1), logits_aug.softmax(dim=1))


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of the softmax output, −Σ p log p (Grandvalet & Bengio 2005). Low means confident.

    The report prints Σ p log(p + 1e-8), the *negative* entropy: a recipe that wants the printed sign gives this term a
    negative weight. The logarithm here is exact, so it needs no 1e-8.
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def pseudo_label(teacher_probs: Tensor, logits_strong: Tensor, threshold: float) -> Tensor:
    """Cross-entropy of the strong view against the teacher's most probable class, where the teacher is sure of it.

    `teacher_probs` (N, C) are probabilities, without gradient. An image counts if its largest probability is at least
    `threshold`; the sum over those is divided by N, not by their number (FixMatch, Sohn et al. 2020, equation 4). It is
    consistency and entropy minimisation in one: the target is the same image's, seen better, and it is one-hot.
    """
    confidence, pseudo_labels = teacher_probs.detach().max(dim=1)
    per_image = F.cross_entropy(logits_strong, pseudo_labels, reduction="none")
    return (per_image * (confidence >= threshold)).mean()


def contrastive(z_one: Tensor, z_two: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each image's other view among all views of the batch, by cosine similarity.

    `z_one` and `z_two` (N, D) are projections of two views of the same N images; each of the 2N views has one partner and
    2N − 2 others to be told from (NT-Xent; SimCLR, Chen et al. 2020, equation 1). No label is used.
    """
    n, device = len(z_one), z_one.device
    z = F.normalize(torch.cat([z_one, z_two]), dim=1)
    itself = torch.eye(2 * n, dtype=torch.bool, device=device)
    similarity = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    return F.cross_entropy(similarity, torch.arange(2 * n, device=device).roll(n))
