"""What reads the store and tells others: Prometheus, OTLP."""
