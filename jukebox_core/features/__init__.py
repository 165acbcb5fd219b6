"""Features of recordings: codes and activations of a model as arrays. Recipes, windows, pooling and folders of them."""
