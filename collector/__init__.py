"""The w2t daemon: contract, poller, store, topology, attribution, exporters and command line."""

__version__ = "0.1.0"
