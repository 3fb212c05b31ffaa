"""The HTTP layer: the routes, agent authentication, the event stream and the page."""
