"""ModSSC (Barbaux & Boukir 2025): Poisson learning on features of a variational autoencoder, its documented way for MNIST.

The autoencoder does not see the images to test with; the graph does, without their labels. All settings are those of its recipe.
"""

import sys

import numpy as np
from modssc.data_loader.types import LoadedDataset, Split
from modssc.graph import GraphBuilderSpec, build_graph
from modssc.graph.artifacts import NodeDataset
from modssc.graph.specs import GraphWeightsSpec
from modssc.preprocess import PreprocessPlan, StepConfig, preprocess
from modssc.transductive import DeviceSpec, get_method_class

task = np.load(sys.argv[1])
seed, y_labeled = int(task["seed"]), task["y_labeled"]
x, x_test = np.concatenate([task["x_labeled"], task["x_unlabeled"]]), task["x_test"]
y = np.zeros(len(x) + len(x_test), np.int64)  # of which those of the labelled images are read
y[: len(y_labeled)] = y_labeled

# Nothing is cached: each run trains.
autoencoder = {"preset": "poisson_mnist", "model_seed": seed, "device": "cpu", "model_cache": False}
plan = PreprocessPlan(output_key="features.vae", steps=(StepConfig("core.ensure_2d"), StepConfig("core.vae", autoencoder)))
split = Split(X=x, y=y[: len(x)]), Split(X=x_test, y=y[len(x) :])
data = LoadedDataset(train=split[0], test=split[1], meta={"modality": "vision"})
made = preprocess(data, plan, seed=seed, fit_indices=np.arange(len(x)), cache=False).dataset
features = np.concatenate([np.asarray(made.train.X), np.asarray(made.test.X)])

settings = {"scheme": "knn", "metric": "euclidean", "k": 10, "symmetrize": "mean", "normalize": "none", "self_loops": False}
weights = GraphWeightsSpec(kind="knn_gaussian")
graph = build_graph(features, spec=GraphBuilderSpec(**settings, weights=weights), seed=seed, cache=False)
nodes = NodeDataset(X=features, y=y, graph=graph, masks={"train_mask": np.arange(len(y)) < len(y_labeled)})
method = get_method_class("poisson_learning")()
method.fit(nodes, device=DeviceSpec(device="cpu"), seed=seed)
predicted = method.predict_proba(nodes)[len(x) :].argmax(axis=1)

np.save(sys.argv[2], predicted)
