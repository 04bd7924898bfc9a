"""A real Triton server on this machine, without a container: for trying, for tests, for a laptop. ``make triton``.

What runs is tritonserver 2.51 (release 24.10), CPU only, as the PyPI wheel nvidia-pytriton 0.7.0 carries it, **not**
the image that a GPU is served with (``Dockerfile.gpu``, docs/gpu.md). That build lacks the native ONNX Runtime backend;
a Python-based one of the same name stands in (:mod:`inference.triton.backend`), so that the very ``models/`` folder is
served. It predates later security fixes: it listens on loopback only.

It lives in a venv of its own, ``.venv-triton`` (``make triton-install``): its tensors come out wrong, without a word,
under the NumPy 2 that ScamTap needs. Nothing here imports NumPy but ``backend``, which only the server ever runs.
"""
