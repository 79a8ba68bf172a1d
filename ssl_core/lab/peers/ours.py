"""This project: its classifier, with the recipe that a third argument names."""

import sys

import numpy as np

from ssl_core import SemiSupervisedClassifier

task = np.load(sys.argv[1])
x = np.concatenate([task["x_labeled"], task["x_unlabeled"]])
y = np.concatenate([task["y_labeled"], np.full(len(task["x_unlabeled"]), -1)])

model = SemiSupervisedClassifier(sys.argv[3], random_state=int(task["seed"]))
predicted = model.fit(x, y).predict(task["x_test"])

np.save(sys.argv[2], predicted)
