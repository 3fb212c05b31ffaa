"""HTTP: the routes, the authentication of agents, the event stream and the page."""
