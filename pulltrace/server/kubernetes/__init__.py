"""The connection to Kubernetes: watch pods and events, and determine which node needs which image."""
