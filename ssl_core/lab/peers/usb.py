"""USB (Wang et al. 2022), the package semilearn: FixMatch or FreeMatch, as a third argument says.

Its documentation's way for a data set of one's own, with the defaults but for what is commented: these are for colour images, a
network that would train for days on a processor, and a GPU.
"""

import random
import sys
import tempfile

import numpy as np
import torch
from semilearn import BasicDataset, Trainer, get_algorithm, get_config, get_data_loader
from semilearn.datasets.augmentation import RandAugment
from torch import nn
from torchvision import transforms

STEPS, URATIO = 500, 1  # in place of 2**20, and of the 7 of its settings for other images: four minutes of one core

# It asks for a GPU wherever it computes: these calls do nothing.
torch.cuda.set_device = lambda device: None
torch.Tensor.cuda = nn.Module.cuda = lambda self, *args, **kwargs: self


class SmallNet(nn.Module):
    """A network of 419,346 parameters, in place of wrn_28_2."""

    def __init__(self, num_classes, **_):
        super().__init__()
        layers = []
        for before, after in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 3 * 3, 280), nn.ReLU())
        self.classifier = nn.Linear(280, num_classes)

    def forward(self, x, **_):
        feat = self.features(x)
        return {"logits": self.classifier(feat), "feat": feat}


def colored(x):
    """In three equal channels, as its RandAugment needs."""
    return np.repeat(x[..., None], 3, axis=3)


torch.set_num_threads(1)
task, name = np.load(sys.argv[1]), sys.argv[3]
seed, n_classes = int(task["seed"]), int(task["n_classes"])
x_lb, y_lb, x_test = colored(task["x_labeled"]), task["y_labeled"], colored(task["x_test"])
x_ulb = np.concatenate([colored(task["x_unlabeled"]), x_lb])  # as its default include_lb_to_ulb does

settings = {
    "algorithm": name,
    "net": "small",
    "dataset": "mnist",
    "num_classes": n_classes,
    "num_labels": len(y_lb),
    "img_size": 28,
    "epoch": 1,
    "num_train_iter": STEPS,
    "num_eval_iter": STEPS,
    "num_log_iter": 100,
    "batch_size": 64,
    "uratio": URATIO,
    "eval_batch_size": 256,
    "seed": seed,
    "save_dir": tempfile.mkdtemp(),
    "save_name": name,
    "gpu": 0,
    "world_size": 1,
    "distributed": False,
    "num_workers": 0,
}
if name == "freematch":
    settings |= {"ent_loss_ratio": 0.001, "clip_thresh": True}  # of its own settings for digits (SVHN)
config = get_config(settings)
random.seed(seed)
np.random.seed(seed)  # noqa: NPY002 - what it draws from
torch.manual_seed(seed)
algorithm = get_algorithm(config, SmallNet, tb_log=None, logger=None)
algorithm.hooks_dict.pop("TimerHook")  # it times with a GPU's events

# Its transforms without the horizontal flip: digits must not be mirrored.
crop = transforms.RandomCrop(28, padding=int(28 * (1 - config.crop_ratio)), padding_mode="reflect")
last = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
weak, plain = transforms.Compose([crop, *last]), transforms.Compose(last)
strong = transforms.Compose([crop, RandAugment(3, 5), *last])
labeled = BasicDataset(name, x_lb, y_lb, n_classes, weak)
unlabeled = BasicDataset(name, x_ulb, None, n_classes, weak, is_ulb=True, strong_transform=strong)
seen = BasicDataset(name, x_lb, y_lb, n_classes, plain)  # in place of validation images; nothing is chosen by them
test = BasicDataset(name, x_test, np.zeros(len(x_test), np.int64), n_classes, plain)  # it needs labels; they are not used

in_order = {"data_sampler": None, "drop_last": False, "num_workers": 0}  # its default shuffles
trainer = Trainer(config, algorithm)
trainer.fit(
    get_data_loader(config, labeled, 64, num_workers=0),
    get_data_loader(config, unlabeled, 64 * URATIO, num_workers=0),
    get_data_loader(config, seen, 256, **in_order),
)
predicted, _ = trainer.predict(get_data_loader(config, test, 256, **in_order))

np.save(sys.argv[2], predicted.astype(np.int64))
