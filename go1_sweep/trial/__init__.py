"""The simulator worker: runs in the simulator's interpreter, and knows neither Ray nor Optuna."""
