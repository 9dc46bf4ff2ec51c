"""The token reducers and the encoder that runs them; knows nothing of search."""
