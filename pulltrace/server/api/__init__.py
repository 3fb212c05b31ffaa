"""HTTP: the routes, agent authentication, the event stream and the page."""
