import math
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from ssl_core import graph, recipes, train
from ssl_core.augment import Augment
from ssl_core.data import Task
from ssl_core.experiment import Labeling, prepare
from ssl_core.losses import class_centroids
from ssl_core.model import Net, init_net
from ssl_core.recipes import BEST, PUBLISHED, RECIPES, SUPERVISED, TERMS, WEAK
from ssl_core.report_loop import printed_step


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(recipe, epochs=2, steps=3):
    return replace(recipe, epochs=epochs, epochs_at={}, steps_per_epoch=recipe.steps_per_epoch and steps)


def few(images, n_labels=50, seed=0, unlabeled=2000):
    """A task of few unlabelled images, without a graph."""
    task = prepare(images, Labeling(n_labels, seed), SUPERVISED)
    return replace(task, x_u=task.x_u[:unlabeled])


def fit(images, recipe, n_labels=50, seed=0, **changes):
    return train.fit(init_net(seed), few(images, n_labels, seed), replace(recipe, **changes), seed)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_fit_depends_on_its_seed_not_on_global_state(images, recipe):
    one = fit(images, tiny(recipe))
    torch.manual_seed(99)
    np.random.seed(99)
    two, other = fit(images, tiny(recipe)), fit(images, tiny(recipe), seed=1)
    assert same_weights(one.model, two.model) and not same_weights(one.model, other.model)

    def numbers(result):
        return [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]

    assert numbers(one) == numbers(two)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_history_holds_objective_and_terms(images, recipe):
    found = fit(images, tiny(recipe, epochs=6))
    assert [row["epoch"] for row in found.history] == [1, 2, 3, 4, 5, 6]
    assert list(found.snapshots) == [1, 5, 6]
    assert same_weights(found.snapshots[6], found.model) and not same_weights(found.snapshots[1], found.model)
    for row in found.history:
        assert set(recipe.terms) == set(row) & set(TERMS)
        assert row["total"] == pytest.approx(sum(recipe.weights[name] * row[name] for name in recipe.terms), rel=1e-4)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.slow
def test_fit_learns(images, recipe):
    found = fit(images, tiny(recipe, epochs=12, steps=10), n_labels=500)
    evaluation = train.evaluate(found.model, images.x_test[:2000], images.y_test[:2000])
    assert evaluation.accuracy > 0.6
    assert found.history[-1]["supervised"] < 0.7 * found.history[0]["supervised"]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("n_labels", [1, 10, 250])
def test_unlabelled_digit_makes_no_nan(images, recipe, n_labels):
    found = fit(images, tiny(recipe), n_labels=n_labels)
    assert all(p.isfinite().all() for p in found.model.parameters())
    assert all(math.isfinite(value) for row in found.history for value in row.values())


@pytest.mark.slow
def test_published_equals_the_printed_loop(images):
    """A plain transcription of the report's loop takes the same steps: ReLU before pooling, torchvision's affine, Σ p log p."""
    task = few(images, 500)
    x_l, y_l, x_u = task.x_l[:], task.y_l, task.x_u[:]
    ours = train.fit(init_net(0), task, replace(PUBLISHED, epochs=2), seed=0)

    model = init_net(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    same_draws = generator(0)
    draws = train.IndexBatches(500, 2000, PUBLISHED, same_draws)
    rows = []
    for _ in range(2):
        batches = draws.epoch()
        with torch.no_grad():
            features = model(x_l)[1]
            centroids = torch.stack([features[y_l == c].mean(0) for c in range(10)])
        for labeled, unlabeled in batches:
            # Ours draws an angle, a scale, two shears and two shifts for each image, here all from ranges of no width.
            for shape in ((200,), (200,), (200, 2), (200, 2)):
                torch.rand(shape, generator=same_draws)
            rows.append(printed_step(model, optimizer, x_l[labeled], y_l[labeled], x_u[unlabeled], centroids).item())
    expected = [np.mean(rows[:3]), np.mean(rows[3:])]
    assert [row["total"] for row in ours.history] == pytest.approx(expected, rel=2e-3)
    for mine, theirs in zip(ours.model.parameters(), model.parameters(), strict=True):
        assert (mine - theirs).abs().max() < 1e-3


def test_each_term_alone_has_a_gradient(images):
    x = images.x[:20]
    for name in TERMS:
        recipe = replace(BEST, weights={name: 1.0}, threshold=0.0)
        model = init_net(0)
        centroids = class_centroids(train.embed(model, x), images.y[:20])
        batch = train.views(x, images.y[:20], x, recipe, generator())
        terms = train.loss_terms(model, train.Teacher(model, recipe).probabilities, batch, centroids, recipe)
        assert list(terms) == [name]
        terms[name].backward()
        assert model.conv1.weight.grad.abs().sum() > 0, name


def test_teacher_averages_weights_without_training(images):
    model = init_net(0)
    teacher = train.Teacher(model, replace(BEST, ema_decay=0.5))
    weights = []
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            model.linear2.bias.fill_(value)
        teacher.update(model)
        weights.append(teacher.model.linear2.bias[0].item())
    assert weights == [1.0, 1.5, 2.75]  # the first, the mean of two, then half old and half new
    assert not any(p.requires_grad for p in teacher.model.parameters())


def test_alignment_evens_out_predicted_classes(images):
    x = images.x[:500]
    plain = train.Teacher(init_net(0), replace(BEST, align_decay=0.0)).probabilities(x)
    teacher = train.Teacher(init_net(0), replace(BEST, align_decay=0.5))
    for _ in range(20):
        aligned = teacher.probabilities(x)
    assert torch.allclose(aligned.sum(1), torch.ones(500), atol=1e-5)
    assert aligned.mean(0).std() < 0.2 * plain.mean(0).std()


def test_alignment_with_prior_keeps_a_rare_class_rare(images):
    x, prior = images.x[:500], torch.tensor([0.01] + [0.11] * 9)
    estimated = replace(BEST, align_decay=0.5, uniform_prior=False)
    teacher = train.Teacher(init_net(0), estimated, prior)
    for _ in range(20):
        aligned = teacher.probabilities(x)
    assert aligned.mean(0).tolist() == pytest.approx(prior.tolist(), rel=0.15)
    plain = train.Teacher(init_net(0), replace(BEST, align_decay=0.0)).probabilities(x)
    assert torch.equal(train.Teacher(init_net(0), estimated).probabilities(x), plain)  # nothing known: nothing assumed


def test_candidates_constrain_the_teacher_and_replace_it_in_warmup(images):
    x = images.x[:200]
    candidates = torch.zeros(200, 10, dtype=torch.bool)
    candidates[:100, 3] = True
    candidates[100:, [3, 5]] = True
    teacher = train.Teacher(init_net(0), replace(BEST, align_decay=0.0))
    free, bound = teacher.probabilities(x), teacher.probabilities(x, candidates)
    assert torch.allclose(bound[:100, 3], torch.ones(100)) and (bound[~candidates] == 0).all()
    assert torch.allclose(bound[100:, 3] / bound[100:, 5], free[100:, 3] / free[100:, 5], rtol=1e-4)
    warmup = teacher.probabilities(x, candidates, warmup=True)
    assert torch.equal(warmup[:, 3], torch.where(torch.arange(200) < 100, 1.0, 0.5))


@pytest.mark.slow
def test_candidates_teach_only_while_they_constrain(images):
    """Wrong candidates teach wrong classes; a network that they never constrain learns as without them."""
    recipe = tiny(replace(BEST, graph_warmup=1.0, graph_constrained=1.0), epochs=20)
    task = few(images, unlabeled=500)
    y_u = images.y[task.split.unlabeled][:500]
    threes = torch.zeros(500, 10, dtype=torch.bool)
    threes[:, 3] = True

    def trained(recipe, candidates):
        return train.fit(init_net(0), replace(task, candidates=candidates), recipe, 0).model

    def threes_read(model):
        return (train.evaluate(model, task.x_u, y_u).predictions == 3).float().mean()

    assert threes_read(trained(recipe, threes)) > 0.9 > 0.5 > threes_read(trained(recipe, None))
    unconstrained = replace(recipe, graph_warmup=0.0, graph_constrained=0.0)
    assert same_weights(trained(unconstrained, threes), trained(unconstrained, None))


def test_teacher_without_averaging_is_the_model(images):
    found = fit(images, tiny(replace(BEST, ema_decay=0.0)))
    assert found.model is not None and all(p.isfinite().all() for p in found.model.parameters())


def test_infinite_loss_stops_training(images):
    with pytest.raises(FloatingPointError, match=r"recipe 'supervised' is not finite at step \d+: .*supervised"):
        fit(images, tiny(SUPERVISED, epochs=50), weights={"supervised": 3e38})


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_labels_alone_teach_if_every_image_has_one(images, recipe):
    x, y = images.x[:300], images.y[:300]
    task = Task(x, y, x[:0], torch.ones(0, 10, dtype=torch.bool))
    history = train.fit(init_net(0), task, tiny(recipe), 0).history
    assert {row[name] for row in history for name in recipe.terms if name != "supervised"} <= {0.0}
    assert all(row["total"] == pytest.approx(row["supervised"]) and row["supervised"] > 0 for row in history)


@settings(deadline=None, max_examples=25)
@given(n_l=st.integers(1, 59_999))
def test_labelled_images_come_up_at_least_as_often_as_unlabelled(n_l):
    n_u = 60_000 - n_l
    ((labeled, unlabeled), *_) = train.IndexBatches(n_l, n_u, BEST, generator()).epoch()
    assert (len(labeled), len(unlabeled)) == BEST.batch_for(n_l, n_u) and len(labeled) + len(unlabeled) == 192
    assert (len(labeled) + 0.5) / n_l >= (len(unlabeled) - 0.5) / n_u, "but for the half of an image that is rounded away"
    assert BEST.batch_for(6000, 54_000) == (32, 160) and BEST.batch_for(60_000, 0) == (192, 0)
    assert SUPERVISED.batch_for(n_l, n_u) == (128, 0)


@settings(deadline=None, max_examples=25)
@given(n_l=st.integers(1, 700), n_u=st.integers(1, 700))
def test_report_batches_end_with_the_shorter_set(n_l, n_u):
    epoch = train.IndexBatches(n_l, n_u, PUBLISHED, generator()).epoch()
    assert len(epoch) == PUBLISHED.steps_for(n_l, n_u) == min(math.ceil(n_l / 200), math.ceil(n_u / 200))
    for side, n in ((0, n_l), (1, n_u)):
        seen = torch.cat([pair[side] for pair in epoch])
        assert len(seen.unique()) == len(seen) and seen.max() < n
    if n_l <= n_u:
        assert sum(len(labeled) for labeled, _ in epoch) == n_l


def test_evaluation_equals_scikit_learn(images):
    model = fit(images, tiny(SUPERVISED, epochs=4)).model
    x, y = images.x_test[:1234], images.y_test[:1234]
    found = train.evaluate(model, x, y)
    truth, guess, p = y.numpy(), found.predictions.numpy(), found.probabilities.double().numpy()
    assert found.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, guess))
    assert found.nll == pytest.approx(sklearn.metrics.log_loss(truth, p / p.sum(1, keepdims=True)), rel=1e-4)
    assert (found.confusion.numpy() == sklearn.metrics.confusion_matrix(truth, guess, labels=range(10))).all()
    recall = sklearn.metrics.recall_score(truth, guess, average=None, zero_division=0)
    assert found.recall.tolist() == pytest.approx(recall.tolist())


def test_views_are_averaged_at_test_time(images):
    model = fit(images, tiny(SUPERVISED, epochs=4)).model
    x, y = images.x_test[:700], images.y_test[:700]
    once, voted = train.evaluate(model, x, y), train.evaluate(model, x, y, 8, WEAK)
    draws, p = generator(), once.probabilities.clone()
    for _ in range(8):
        p += torch.cat([model(WEAK(part, draws))[0].softmax(1) for part in (x[:500], x[500:])]).detach()
    assert torch.allclose(voted.probabilities, p / 9, atol=1e-5) and not torch.equal(voted.predictions, once.predictions)
    assert torch.equal(voted.probabilities, train.evaluate(model, x, y, 8, WEAK).probabilities)
    assert torch.allclose(train.evaluate(model, x, y, 3, Augment()).probabilities, once.probabilities, atol=1e-5)


# --- on a GPU, as far as that can be told without one


class Pretended(torch.Generator):
    """A generator of the processor that says it is a GPU's: there a real one needs a driver."""

    device = torch.device("cuda:0")

    def __new__(cls, device):
        assert torch.device(device).type == "cuda"
        return super().__new__(cls)


@pytest.fixture
def losses(monkeypatch):
    """A GPU of PyTorch's fake tensors: without numbers, but with devices; they refuse what mixes these, or waits for a number.

    The way backwards would look for a driver: here it notes the device of the loss, and all gradients are 0.
    """
    import torch._dynamo  # before the generator is replaced

    def zero_grad(optimizer):
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.zeros_like(weight)

    seen = []
    monkeypatch.setattr(torch, "Generator", Pretended)
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", zero_grad)
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: seen.append(loss.device.type))
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)
    with FakeTensorMode():
        yield seen


@pytest.mark.parametrize("name", ["supervised", "best", "supervised-plus-consistency", "best-without-muon"])
def test_training_stays_on_the_gpu_and_never_waits(losses, name):
    recipe = tiny(recipes.get(name), epochs=1, steps=10)
    with torch.device("cuda"):
        model, x, y = Net(), torch.zeros(500, 1, 28, 28), torch.zeros(500, dtype=torch.int64)
        candidates = torch.ones(450, 10, dtype=torch.bool) if recipe.pretraining else None
    with pytest.raises(DataDependentOutputException):  # at the end of the epoch its losses are read, and no sooner
        train.fit(model, Task(x[:50], y[:50], x[50:], candidates), recipe, 0)
    assert losses == ["cuda"] * 10


def test_pretraining_stays_on_the_gpu(losses, monkeypatch):
    monkeypatch.setattr(graph, "init_net", lambda seed, *shape: Net(*shape))
    with torch.device("cuda"):
        encoder = graph.Encoder(0, BEST.pretraining.dimensions)
    monkeypatch.setattr(encoder, "to", lambda device: encoder)  # fake weights can't be moved in place
    monkeypatch.setattr(graph, "Encoder", lambda *arguments: encoder)
    graph.pretrain(torch.zeros(500, 1, 28, 28, device="cuda"), replace(BEST.pretraining, steps=10), lambda step, loss: None)
    assert losses == ["cuda"] * 10
