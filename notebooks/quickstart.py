"""From MNIST to 99 % with ten labels, and three questions: `python quickstart.py`, ten minutes of two cores."""

import numpy as np

from ssl_core import SemiSupervisedClassifier, label_issues, suggest
from ssl_core.datasets import load

GRAPHS = "graphs"  # the folder that keeps the graph of neighbours, which all steps share

# 60,000 images to learn from and 10,000 to test with, bytes of shape (N, 28, 28).
_, mnist = load("mnist")
X, X_test = mnist["x"][:, 0], mnist["x_test"][:, 0]
y, y_test = mnist["y"], mnist["y_test"]

# 1. Which images to label, if none has a label yet? Ten that stand for all others; a person would look and write ten digits.
labeled = suggest(X, 10, graph=GRAPHS, n_jobs=-1, verbose=1)
print("images to label:", labeled, "digits:", y[labeled])

# 2. Learn from these ten labels, and from all other images without theirs: -1 is no label.
few = np.full(len(y), -1)
few[labeled] = y[labeled]
classifier = SemiSupervisedClassifier(graph=GRAPHS, n_jobs=-1, verbose=1)
classifier.fit(X, few)
print(f"test accuracy with ten labels: {100 * classifier.score(X_test, y_test):.2f} %")

# 3. Which images is it least sure of? These are worth a look.
p = classifier.predict_proba(X_test)
print("least sure of the test images:", p.max(axis=1).argsort()[:10])

# 4. Which labels are wrong? Of 1000 labels, 50 are replaced by the next digit; most of them are found.
random = np.random.default_rng(0)
thousand = random.permutation(len(y))[:1000]
given = np.full(len(y), -1)
given[thousand] = y[thousand]
given[thousand[:50]] = (y[thousand[:50]] + 1) % 10
issues = label_issues(X, given, graph=GRAPHS, n_jobs=-1)
found = np.isin(issues.index, thousand[:50]).sum()
print(f"suspect labels: {len(issues.index)}, of which {found} of the 50 wrong ones; in all about {issues.n_wrong:.0f} are wrong")
