"""What the sidecar is made of: the server and its answers, the history, the stream of events, metrics, GPUs."""
