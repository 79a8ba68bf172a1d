"""LAMDA-SSL (Jia, Guo, Zhou & Li 2023): FixMatch.

The defaults but for what is commented: these are for colour images, and a network that would train for days on a processor.
"""

import random
import sys

import numpy as np
import torch
from LAMDA_SSL.Algorithm.Classification.FixMatch import FixMatch
from LAMDA_SSL.Augmentation.Vision.Cutout import Cutout
from LAMDA_SSL.Augmentation.Vision.RandAugment import RandAugment
from LAMDA_SSL.Augmentation.Vision.RandomCrop import RandomCrop
from LAMDA_SSL.Dataloader.LabeledDataloader import LabeledDataLoader
from LAMDA_SSL.Dataloader.UnlabeledDataloader import UnlabeledDataLoader
from LAMDA_SSL.Dataset.LabeledDataset import LabeledDataset
from LAMDA_SSL.Dataset.UnlabeledDataset import UnlabeledDataset
from LAMDA_SSL.Scheduler.CosineAnnealingLR import CosineAnnealingLR
from LAMDA_SSL.Transform.ToImage import ToImage
from LAMDA_SSL.Transform.ToTensor import ToTensor
from LAMDA_SSL.Transform.Vision.Normalization import Normalization
from sklearn.pipeline import Pipeline
from torch import nn

STEPS = 140  # in place of 2**20: four minutes of one core


class SmallNet(nn.Module):
    """A network of 421,834 parameters, in place of WideResNet-28-2."""

    def __init__(self, n_classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64)
        self.hidden, self.out = nn.Linear(64 * 7 * 7, 128), nn.Linear(128, n_classes)

    def forward(self, x):
        x = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        return self.out(torch.relu(self.hidden(x.flatten(1))))


task = np.load(sys.argv[1])
seed = int(task["seed"])
random.seed(seed)
np.random.seed(seed)  # noqa: NPY002 - what it draws from
torch.manual_seed(seed)
torch.set_num_threads(1)

# One grey channel, with the images' own mean and deviation; Cutout in grey; no horizontal flip: digits must not be mirrored.
pixels = task["x_unlabeled"] / np.float32(255)
scaled = ("Normalization", Normalization(mean=[pixels.mean()], std=[pixels.std()]))
views = {"pre_transform": ToImage(), "transform": Pipeline([("ToTensor", ToTensor(dtype="float", image=True)), scaled])}
crop = ("RandomCrop", RandomCrop(padding=0.125, padding_mode="reflect"))
strong = [crop, ("RandAugment", RandAugment(n=2, m=10, num_bins=10)), ("Cutout", Cutout(v=0.5, fill=(127,)))]

model = FixMatch(
    network=SmallNet(int(task["n_classes"])),
    device="cpu",
    labeled_dataset=LabeledDataset(**views),
    unlabeled_dataset=UnlabeledDataset(**views),
    test_dataset=UnlabeledDataset(**views),
    # Its prefetch_factor of 2 is refused by PyTorch 2 where no worker loads.
    labeled_dataloader=LabeledDataLoader(batch_size=64, drop_last=True, prefetch_factor=None),
    unlabeled_dataloader=UnlabeledDataLoader(drop_last=True, prefetch_factor=None),
    test_dataloader=UnlabeledDataLoader(batch_size=64, prefetch_factor=None),
    augmentation={"weak_augmentation": Pipeline([crop]), "strong_augmentation": Pipeline(strong)},
    epoch=1,
    num_it_epoch=STEPS,
    num_it_total=STEPS,
    scheduler=CosineAnnealingLR(eta_min=0, T_max=STEPS),  # over these steps
    ema_decay=0.97,  # in place of 0.999, with which the initial weights would outlast so few steps
)
model.fit(X=task["x_labeled"], y=task["y_labeled"], unlabeled_X=task["x_unlabeled"])
predicted = np.asarray(model.predict(X=task["x_test"]), dtype=np.int64)

np.save(sys.argv[2], predicted)
