"""Tables, figures and summaries made from the records of a search."""
