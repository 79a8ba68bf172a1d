"""GraphLearning (Calder et al.): Poisson learning on a graph of all images, those to test with among them.

Default parameters. Its examples take features of a variational autoencoder, which cannot be had everywhere; here they are 50
principal components.
"""

import sys

import graphlearning as gl
import numpy as np
from sklearn.decomposition import PCA

task = np.load(sys.argv[1])
x = np.concatenate([task["x_labeled"], task["x_unlabeled"], task["x_test"]]).reshape(-1, 28 * 28)

features = PCA(50, random_state=0).fit_transform(x / 255)
weights = gl.weightmatrix.knn(features, 10)
predicted = gl.ssl.poisson(weights).fit_predict(np.arange(len(task["y_labeled"])), task["y_labeled"])

np.save(sys.argv[2], predicted[-len(task["x_test"]) :])
