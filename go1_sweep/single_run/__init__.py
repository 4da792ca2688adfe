"""``train`` and ``play``: one simulator worker on this machine, without Ray, in rsl_rl's folders."""
