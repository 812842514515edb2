"""Layer 4, network: interfaces of the host."""
