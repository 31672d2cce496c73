"""The parts of a training run: loop, optimizers, schedules, checkpoints, metrics and devices."""
