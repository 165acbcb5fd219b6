"""The tests; `helpers` is shared by all of them."""
