"""The Kubernetes side: watch pods and events, and derive which node needs which image."""
