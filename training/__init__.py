"""Training runs: options, loaders, optimizer steps, checkpoints and logs, whatever the network."""
