"""Search loops, generational and steady, and their stopping criteria."""
