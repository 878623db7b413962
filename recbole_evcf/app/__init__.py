"""Look at what trained models recommend: a page on this machine, and an HTTP API."""
