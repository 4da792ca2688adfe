"""Hyperparameter sweeps that end with a Unitree Go1 walking policy."""

__version__ = "0.1.0"
