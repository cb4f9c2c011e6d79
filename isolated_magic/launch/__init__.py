"""How a child comes to life, and the platform it lives on."""
