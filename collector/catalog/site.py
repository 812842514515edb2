"""Layer 1, power, from outside: capacity, carbon intensity, price of energy."""
