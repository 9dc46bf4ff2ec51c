"""The search loops, generational and steady, and what ends them."""
