"""gRPC stubs for the CRI's ImageService. Tests use the stubs to pull images as a kubelet does. The agent's stubs, in
pulltrace.agent.containerd_api, are generated in the same way.
"""
