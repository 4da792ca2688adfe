"""Isaac Lab 2.3.2 without Isaac Sim: the real wheel and the real rsl_rl 3.0.1 on a stand-in for Omniverse."""
