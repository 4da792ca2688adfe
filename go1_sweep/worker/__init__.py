"""The driver's side of a simulator worker: its process, what it can be asked, the jobs that it does. Without Ray."""
