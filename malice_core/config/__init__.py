"""Hydra configuration of training: YAML files. Types are in ``training.settings``, ``docs/training.md`` explains."""
