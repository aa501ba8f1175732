"""One model is read at a time in a process.

While transformers reads a model (`from_pretrained`) it replaces `PreTrainedModel.tie_weights` and torch's default type for
the whole process, and puts back afterwards what it found. Of two readers at once the later one finds the other's
replacement and leaves it behind for good: from then on no model of the process has tied embeddings.
"""

from __future__ import annotations

import threading

LOADING = threading.RLock()
"""Held by whoever reads a model in a process with more than one thread."""
