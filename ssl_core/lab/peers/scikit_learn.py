"""scikit-learn: label spreading, or self-training, as a third argument says; on 50 principal components.

Label spreading has the kernel `knn`: its default compares all images, which takes 29 GB for 60,000. Self-training has the
classifier of scikit-learn's own example. All else is the default.
"""

import sys

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

task, seed = np.load(sys.argv[1]), int(np.load(sys.argv[1])["seed"])
x = np.concatenate([task["x_labeled"], task["x_unlabeled"]]).reshape(-1, 28 * 28) / 255
y = np.concatenate([task["y_labeled"], np.full(len(task["x_unlabeled"]), -1)])

spreading = LabelSpreading(kernel="knn")
training = SelfTrainingClassifier(SGDClassifier(alpha=1e-5, loss="log_loss", random_state=seed))
model = make_pipeline(PCA(50, random_state=0), {"label-spreading": spreading, "self-training": training}[sys.argv[3]])
predicted = model.fit(x, y).predict(task["x_test"].reshape(-1, 28 * 28) / 255)

np.save(sys.argv[2], predicted)
