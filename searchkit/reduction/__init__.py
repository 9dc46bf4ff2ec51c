"""Token reducers and the encoder that runs them, independent of the search."""
