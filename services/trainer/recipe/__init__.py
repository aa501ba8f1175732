"""The training recipe: rows to token ids, loss, batches, checkpoints, proofs, artifact. The only part of the trainer with torch.

Runs in the spawned child alone; the worker process never imports it.
"""
