"""Layer 3, fabric: NVLink, InfiniBand and RoCE ports, collectives."""
