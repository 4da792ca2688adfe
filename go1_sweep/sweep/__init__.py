"""The driver and the trial actors: the only package that imports Ray or Optuna."""
