"""What runs an exported policy outside the trainer."""

from go1_sweep.deploy.policy import BundleError, Policy

__all__ = ["BundleError", "Policy"]
