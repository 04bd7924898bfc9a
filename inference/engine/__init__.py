"""Tensors in, tensors out: the models, how they are written and how they are run."""
