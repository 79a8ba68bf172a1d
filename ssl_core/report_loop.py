"""The training loop of the report, as it is printed there: an oracle for train.py, and what its speed is compared with.

The only change: the affine map is called with the arguments that the printed call lacks. Nothing here is part of a run.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms
from torchvision.transforms import functional as TF

from .datasets import MEAN, STD
from .model import Net, init_net

BATCH = 200  # labelled images, and as many unlabelled ones


def printed_logits(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and features of images `x`, as the report computes them: ReLU, then pooling."""
    x = F.max_pool2d(F.relu(net.conv1(x)), 2)
    x = F.max_pool2d(F.relu(net.conv2(x)), 2)
    features = F.relu(net.conv3(x)).flatten(1)
    return net.linear2(F.relu(net.linear1(features))), features


def printed_step(net: Net, optimizer: torch.optim.Optimizer, x_l: Tensor, y_l: Tensor, x_u: Tensor, centroids: Tensor) -> Tensor:
    """One step on a batch of labelled and one of unlabelled images; returns the total loss before it."""
    turned = TF.affine(x_u, angle=15, translate=[0.1, 0.1], scale=1.0, shear=[0.0, 0.0])
    logits_l, _ = printed_logits(net, x_l)
    logits_u, features_u = printed_logits(net, x_u)
    p, p_turned = F.softmax(logits_u, 1), F.softmax(printed_logits(net, turned)[0], 1)
    distances = torch.stack([(features_u - c).norm(dim=1) for c in centroids], 1)
    clustering = distances.min(1).values.mean()
    entropy = (p * torch.log(p + 1e-8)).sum(1).mean()
    total = F.cross_entropy(logits_l, y_l) + 0.1 * clustering + 0.5 * F.mse_loss(p, p_turned) + 0.05 * entropy
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total


def printed_centroids(net: Net, labeled: DataLoader) -> Tensor:
    """The mean features (10, 576) of the labelled images of each class."""
    with torch.no_grad():
        batches = [(printed_logits(net, x)[1], y) for x, y in labeled]
    features, y = torch.cat([features for features, _ in batches]), torch.cat([y for _, y in batches])
    return torch.stack([features[y == c].mean(0) for c in range(10)])


def printed_epoch(root: Path, n_labels: int) -> Callable[[], None]:
    """An epoch, ready to run: MNIST below `root` as torchvision's data set, one image at a time, in the default memory layout."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    images = datasets.MNIST(root, train=True, transform=transform)
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    labeled, unlabeled = (
        DataLoader(Subset(images, part.tolist()), batch_size=BATCH, shuffle=True)
        for part in (shuffled[:n_labels], shuffled[n_labels:])
    )
    net = init_net(0).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)

    def epoch() -> None:
        centroids = printed_centroids(net, labeled)
        for (x_l, y_l), (x_u, _) in zip(labeled, unlabeled, strict=False):
            printed_step(net, optimizer, x_l, y_l, x_u, centroids)

    return epoch
