"""Music that the project makes itself, to learn from and to ship: a seeded composer and its synthesiser."""
