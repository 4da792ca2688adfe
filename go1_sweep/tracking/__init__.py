"""Tells services of a sweep, in processes of their own that only read its folder."""
