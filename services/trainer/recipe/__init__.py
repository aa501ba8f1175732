"""The training recipe: rows to token ids, loss, batches, checkpoints, proofs, artifact. Only here is torch imported.

Runs in the spawned child alone; the worker process never imports it.
"""
