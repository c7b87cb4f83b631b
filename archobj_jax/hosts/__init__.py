"""Several processes, usually a host each, as one run: they join, wait for one another, and end
together when one of them fails."""
