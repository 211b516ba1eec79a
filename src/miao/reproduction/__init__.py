"""The paper's tables and its Figure 2, done again on whatever data is there."""
