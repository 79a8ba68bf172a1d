"""Training and evaluation."""
import copy
import math
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from . import losses as L
from .recipes import Recipe

def index_stream(n, batch, g):
    """endless: consecutive batches of consecutive permutations"""
    pool = torch.empty(0, dtype=torch.int64)
    while True:
        while len(pool) < batch:
            pool = torch.cat([pool, torch.randperm(n, generator=g)])
        yield pool[:batch]
        pool = pool[batch:]

def epoch_pairs(n_l, n_u, recipe, g):
    while True:
        yield list(zip(torch.randperm(n_l, generator=g).split(recipe.batch_labeled), torch.randperm(n_u, generator=g).split(recipe.batch_unlabeled)))

def fit(model, x_l, y_l, x_u, recipe, seed, log=print, y_u=None, hook=None):
    g = torch.Generator().manual_seed(seed)
    teacher = copy.deepcopy(model)
    opt = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    n_l, n_u = len(x_l), len(x_u)
    epochs = recipe.epochs_at.get(n_l, recipe.epochs)
    if recipe.steps_per_epoch is None:
        plan = epoch_pairs(n_l, n_u, recipe, g); spe = min(math.ceil(n_l / recipe.batch_labeled), math.ceil(n_u / recipe.batch_unlabeled))
    else:
        spe = recipe.steps_per_epoch
        sl, su = index_stream(n_l, recipe.batch_labeled, g), index_stream(n_u, recipe.batch_unlabeled, g)
        plan = iter(lambda: [(next(sl), next(su)) for _ in range(spe)], None)
    total = epochs * spe
    step = 0
    aligned = torch.full((10,), .1)
    w = recipe.weights
    for epoch in range(1, epochs + 1):
        if w.get("clustering"):
            with torch.no_grad():
                centroids = L.class_centroids(torch.cat([model(b)[1] for b in x_l.split(500)]), y_l)
        sums = {}
        nc = ncok = nu = 0
        for i_l, i_u in next(plan):
            lr = recipe.learning_rate * (0.5 * (1 + math.cos(math.pi * step / total)) if recipe.cosine_decay else 1)
            for gr in opt.param_groups: gr["lr"] = lr
            xb, yb = x_l[i_l], y_l[i_l]
            if recipe.augment_labeled: xb = recipe.augment_labeled(xb, g)
            terms = {}
            if recipe.uses_unlabeled():
                xu = x_u[i_u]
                weak = recipe.augment_weak(xu, g) if recipe.augment_weak else xu
                strong = recipe.augment_strong(xu, g)
                if w.get("pseudo_label"):
                    both = torch.cat([xb, strong])
                    lo, fe = model(both)
                    lo_l, lo_s = lo.split([len(xb), len(strong)])
                    with torch.no_grad():
                        p = teacher(weak)[0].softmax(1)
                        if recipe.align_decay:
                            aligned = recipe.align_decay * aligned + (1 - recipe.align_decay) * p.mean(0)
                            p = p / aligned
                            p = p / p.sum(1, keepdim=True)
                    terms["pseudo_label"] = L.pseudo_label(p, lo_s, recipe.threshold)
                    if y_u is not None:
                        c, a = p.max(1); mk = c >= recipe.threshold
                        nc += mk.sum().item(); ncok += (a == y_u[i_u])[mk].sum().item(); nu += len(mk)
                else:
                    lo, fe = model(torch.cat([xb, weak, strong]))
                    lo_l, lo_u, lo_a = lo.split([len(xb), len(weak), len(strong)])
                    fe_u = fe[len(xb):len(xb) + len(weak)]
                    terms["clustering"] = L.clustering(fe_u, centroids)
                    terms["consistency"] = L.consistency(lo_u, lo_a)
                    terms["entropy"] = L.entropy(lo_u)
            else:
                lo_l, _ = model(xb)
            terms["supervised"] = F.cross_entropy(lo_l, yb)
            loss = sum(w.get(k, 0) * v for k, v in terms.items())
            opt.zero_grad(); loss.backward(); opt.step()
            step += 1
            if recipe.ema_decay:
                d = min(recipe.ema_decay, 1 - 1 / (step + 1))
                with torch.no_grad():
                    torch._foreach_lerp_(list(teacher.parameters()), list(model.parameters()), 1 - d)
            for k, v in terms.items(): sums[k] = sums.get(k, 0) + v.item() / spe
        if hook and (epoch % 10 == 0): hook(epoch, step, sums, teacher if recipe.ema_decay else model, (nc / max(nu, 1), ncok / max(nc, 1)))
    return teacher if recipe.ema_decay else model

@torch.no_grad()
def accuracy(model, x, y):
    return (torch.cat([model(b)[0].argmax(1) for b in x.split(500)]) == y).float().mean().item()
