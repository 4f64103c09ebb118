"""Variants of the paper's generator and discriminators, and what builds and streams them."""
