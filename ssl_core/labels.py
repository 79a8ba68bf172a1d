"""Labels as people write them, with a mark for images that have none, as the codes of classes."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

UNLABELED = -1


def encoded(y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The code (N,) of each label, int64, −1 without one; and the classes in their order.

    An image has no label if its entry is −1 (in texts "-1", which NumPy makes of it) or masked. Raises ValueError, in the words
    of scikit-learn, for what are no classes: real numbers, NaN or None, several columns, numbers below −1.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    masked = np.ma.getmaskarray(y).ravel() if isinstance(y, np.ma.MaskedArray) else None
    labels = column_or_1d(np.ma.getdata(y) if masked is not None else y, warn=True)
    known = np.ones(len(labels), bool) if masked is None else ~masked
    if labels.dtype.kind in "fc":
        assert_all_finite(labels[known], input_name="y")
    elif labels.dtype.kind == "O" and any(map(_missing, labels[known].tolist())):
        raise ValueError(f"Input y contains NaN or None: images without a label have {UNLABELED}")
    known[known] = [value not in (UNLABELED, str(UNLABELED)) for value in labels[known].tolist()]
    if not known.any():
        return np.full(len(labels), UNLABELED), np.empty(0, np.int64)
    named = [isinstance(value, str) for value in labels[known].tolist()]
    if any(named) and not all(named):
        raise ValueError("Unknown label type: y has texts and numbers; must be all of one kind")
    values = np.array(labels[known].tolist()) if labels.dtype.kind == "O" else labels[known]
    check_classification_targets(values)
    classes, codes = np.unique(values, return_inverse=True)
    if classes.dtype.kind in "if" and classes[0] < UNLABELED:
        raise ValueError(f"y has the label {classes[0]}: must be 0 or more, or {UNLABELED} for an image without a label")
    all_codes = np.full(len(labels), UNLABELED)
    all_codes[known] = codes
    return all_codes, classes


def _missing(value: object) -> bool:
    """Whether a value stands for none: None, NaN, or one of the marks of data frames."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)
