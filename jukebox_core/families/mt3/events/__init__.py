"""Notes as events and tokens: vocabulary, encoding, decoding, and the grammar of valid sequences. Imports no torch."""
