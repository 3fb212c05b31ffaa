"""The connection to Kubernetes: watch pods and events, and find out which node needs which image."""
