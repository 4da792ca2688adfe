"""``report.html``: all of a sweep on one page that needs nothing but itself."""
