"""Files that start Ray clusters, checked before anything is started; ``cluster/`` has one of each kind."""
