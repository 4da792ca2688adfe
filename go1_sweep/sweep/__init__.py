"""The driver and the trial actors: the only package that imports Ray or Optuna."""

import os

# Read when Ray is imported, which only this package does.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # Tune's own CSV, JSON and TensorBoard files
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours ends the trials with their states
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own banner
os.environ.setdefault("RAY_AUTH_MODE", "token")  # whoever reaches a Ray without one runs what he likes in it
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault(
    "RAY_memory_monitor_refresh_ms", "0"
)  # it kills actors where Tune cannot take it; the kernel does so too
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would train with the least CPU priority
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # a process for each CPU, that no actor of ours takes
