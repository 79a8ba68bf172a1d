"""Semi-supervised digit recognition: how many images do I have to label?

Read in this order: data, augment, model, losses, recipes, train. `ssl_core.lab` runs and reads experiments.
"""
