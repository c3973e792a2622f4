"""The learning loop: batches, checkpoints, processes and callbacks, for whatever learns a step at a time."""
